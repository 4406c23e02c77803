// Upload a file and a folder through the console page in a real browser, follow the link, take pictures.
//   node page.mjs API_URL GATEWAY_URL FILE FOLDER OUT_DIR        needs install.sh browser
// Prints a line `page: CID URL` for each; exit 1 when the page does not do it within 30 s, or logs an error.
import { createRequire } from 'node:module'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

const peers = process.env.PEERS_HOME ?? join(process.env.REAL_HOME ?? process.env.HOME, '.cache/estuary-peers')
const { chromium } = createRequire(join(peers, 'package.json'))('playwright-core')
const [api, gateway, file, folder, out] = process.argv.slice(2)
const profile = mkdtempSync(join(tmpdir(), 'estuary-browser-'))
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: '/usr/bin/chromium', headless: true, viewport: { width: 1100, height: 800 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
})
let failed = false
const fail = why => { failed = true; console.log(`FAIL ${why}`) }
try {
  const page = await browser.newPage()
  page.on('console', m => { if (m.type() === 'error') fail(`the page logs: ${m.text()}`) })
  page.on('pageerror', e => fail(`the page throws: ${e.message}`))
  page.on('request', r => { const host = new URL(r.url()).hostname; if (!['127.0.0.1', 'localhost', ''].includes(host)) fail(`the page asks ${r.url()}`) })
  await page.goto(api + '/')
  await page.screenshot({ path: join(out, 'page-empty.png') })
  const inputs = page.locator('input[type=file]')
  const plain = page.locator('input[type=file]:not([webkitdirectory])').first()
  await plain.setInputFiles(file)
  const link = page.locator(`a[href^="${gateway}/ipfs/"]`).first()
  await link.waitFor({ timeout: 30_000 })
  const url = await link.getAttribute('href')
  console.log(`page: ${url.split('/').pop()} ${url}`)
  await page.screenshot({ path: join(out, 'page-uploaded.png'), fullPage: true })
  const answer = await page.request.get(url)
  if (answer.status() !== 200 || !Buffer.from(await answer.body()).equals(readFileSync(file))) fail(`${url}: ${answer.status()}, other bytes`)
  const directory = page.locator('input[type=file][webkitdirectory]').first()
  if (await inputs.count() > 1 && await directory.count()) {
    await directory.setInputFiles(folder)
    await page.waitForFunction(([base, first]) => [...document.querySelectorAll(`a[href^="${base}/ipfs/"]`)].some(a => a.href !== first), [gateway, url], { timeout: 30_000 })
    const urls = await page.locator(`a[href^="${gateway}/ipfs/"]`).evaluateAll(all => all.map(a => a.href))
    const second = urls.find(u => u !== url)
    console.log(`page: ${second.split('/').pop()} ${second}`)
    await page.screenshot({ path: join(out, 'page-folder.png'), fullPage: true })
    const listing = await browser.newPage()
    await listing.goto(second)
    await listing.screenshot({ path: join(out, 'listing.png'), fullPage: true })
    await listing.emulateMedia({ colorScheme: 'dark' })
    await listing.screenshot({ path: join(out, 'listing-dark.png'), fullPage: true })
    if (!(await listing.content()).includes(basename('hello.txt'))) fail('the listing does not show hello.txt')
  } else console.log('page: no input for folders')
  await page.emulateMedia({ colorScheme: 'dark' })
  await page.screenshot({ path: join(out, 'page-dark.png'), fullPage: true })
} catch (error) { fail(error.message) } finally {
  await browser.close()
  rmSync(profile, { recursive: true, force: true })
}
process.exit(failed ? 1 : 0)
