"""The HTML report: gathered runs, charts as inline SVG, one page without outside resources."""
