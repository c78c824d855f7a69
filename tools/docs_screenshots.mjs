// Look at the built site in a real browser: every page at the width of a desktop and of a phone, light
// and dark. It fails when a page is wider than its window, asks another host for anything, or logs an
// error. Not part of CI, which has no browser.
//
//   uv run nox -s docs
//   npm install --prefix /tmp/browser playwright-core
//   NODE_PATH=/tmp/browser/node_modules node tools/docs_screenshots.mjs site /tmp/shots [page ...]
//
// CHROMIUM names the browser's program where it is not /usr/bin/chromium.

import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { mkdir, readFile, readdir } from 'node:fs/promises'
import { extname, join, relative } from 'node:path'

const { chromium } = createRequire(import.meta.url)('playwright-core') // finds NODE_PATH, import does not
const [site, out, ...chosen] = process.argv.slice(2)
const WINDOWS = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } }
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' }

async function pages(folder) {
  const entries = await readdir(folder, { recursive: true })
  const found = entries.filter((entry) => entry === 'index.html' || entry.endsWith('/index.html'))
  return found.map((entry) => entry.slice(0, -'index.html'.length)).sort()
}

const server = createServer(async (request, response) => {
  const path = new URL(request.url, 'http://localhost').pathname
  const file = join(site, path.endsWith('/') ? `${path}index.html` : path)
  try {
    const body = await readFile(file)
    response.setHeader('Content-Type', TYPES[extname(file)] ?? 'application/octet-stream')
    response.end(body)
  } catch {
    response.writeHead(404).end()
  }
})
await new Promise((ready) => server.listen(0, '127.0.0.1', ready))
const origin = `http://127.0.0.1:${server.address().port}`

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'],
})
await mkdir(out, { recursive: true })
const problems = []
for (const page of chosen.length ? chosen : await pages(site)) {
  for (const [window, viewport] of Object.entries(WINDOWS)) {
    for (const colorScheme of ['light', 'dark']) {
      const context = await browser.newContext({ viewport, colorScheme, isMobile: window === 'phone' })
      const tab = await context.newPage()
      const name = `${page.replaceAll('/', '-').replace(/-$/, '') || 'index'}.${window}.${colorScheme}`
      const report = (what) => problems.push(`${name}: ${what}`)
      tab.on('request', (request) => {
        const url = request.url()
        if (!url.startsWith(origin) && !url.startsWith('data:')) report(`asks ${url}`)
      })
      tab.on('console', (message) => message.type() === 'error' && report(message.text()))
      tab.on('pageerror', (error) => report(error.message))
      await tab.goto(`${origin}/${page}`, { waitUntil: 'networkidle' })
      const width = await tab.evaluate(() => document.documentElement.scrollWidth)
      if (width > viewport.width) report(`is ${width} wide in a window of ${viewport.width}`)
      await tab.screenshot({ path: join(out, `${name}.png`), fullPage: true })
      await context.close()
    }
  }
}
await browser.close()
server.close()
console.log(problems.join('\n') || `no problems; pictures in ${relative('.', out) || '.'}`)
process.exitCode = problems.length ? 1 : 0
