"""What has no package to install, restated from its facts."""
