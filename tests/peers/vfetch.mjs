// @helia/verified-fetch, a client of trustless gateways, pointed at one gateway and nothing else: every block is checked against its CID.
//   node vfetch.mjs GATEWAY_URL ipfs://CID[/path]...        needs install.sh helia; runs beside its node_modules (interop.sh vfetch does that)
// Prints a JSON line for each URL: status, type, bytes and sha256, or the error. Exit 1 when there was one.
//
// createVerifiedFetch({ gateways: [url] }) is not enough offline: it starts libp2p with bootstrap peers and a public delegated router, and
// asks "fallback" routers only after the ordinary ones ended, which offline is never. So it is built by hand, of HTTP parts only, with the
// gateway list as an ordinary router (its capabilities() hidden).
import { createVerifiedFetchWithHelia } from '@helia/verified-fetch'
import { createHeliaLight } from 'helia'
import { trustlessGatewayBlockBroker } from '@helia/trustless-gateway-client'
import { fallbackRouter } from '@helia/fallback-router'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagJson from '@ipld/dag-json'
import * as json from 'multiformats/codecs/json'
import { createHash } from 'node:crypto'

const [gateway, ...urls] = process.argv.slice(2)
if (!urls.length) { console.error('usage: vfetch.mjs GATEWAY_URL ipfs://CID[/path]...'); process.exit(2) }
const router = fallbackRouter({ gateways: [gateway] })
router.capabilities = undefined
const helia = createHeliaLight({ codecs: [dagCbor, dagJson, json], blockBrokers: [trustlessGatewayBlockBroker({ allowLocal: true, allowInsecure: true })], routers: [router] })
await helia.start()
const verifiedFetch = await createVerifiedFetchWithHelia(helia)
let failed = false
for (const url of urls) {
  try {
    const answer = await verifiedFetch(url, { signal: AbortSignal.timeout(60_000) })
    const body = new Uint8Array(await answer.arrayBuffer())
    console.log(JSON.stringify({ url, status: answer.status, type: answer.headers.get('content-type'), bytes: body.length, sha256: createHash('sha256').update(body).digest('hex') }))
    failed ||= !answer.ok
  } catch (error) {
    failed = true
    console.log(JSON.stringify({ url, error: `${error.name}: ${error.message}`, causes: error.errors?.map(String) }))
  }
}
await verifiedFetch.stop()
await helia.stop()
process.exit(failed ? 1 : 0)
