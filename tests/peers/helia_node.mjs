// A loopback-only Helia 7 node, imported by the helia_*.mjs scripts: everything that could leave the machine is off.
// createHelia() would add HTTP gateways, delegated routing, DHT and bootstrap; the "light" parts below add libp2p and Bitswap only.
import { createHeliaLight } from 'helia'
import { withLibp2pLight } from '@helia/libp2p'
import { withBitswap } from '@helia/bitswap'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import * as dagCbor from '@ipld/dag-cbor'
import * as dagJson from '@ipld/dag-json'

export const say = o => process.stdout.write(JSON.stringify(o) + '\n')

export async function mkNode (port = 0, opts = {}) {
  const light = createHeliaLight({
    datastore: new MemoryDatastore(), blockstore: new MemoryBlockstore(), codecs: [dagCbor, dagJson], ...opts.helia
  })
  const helia = withBitswap(withLibp2pLight(light, {
    addresses: { listen: [`/ip4/127.0.0.1/tcp/${port}${opts.ws ? '/ws' : ''}`] },
    transports: [tcp(), webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() },
    connectionGater: { denyDialMultiaddr: ma => !/^\/(ip4\/127\.|ip6\/::1\/)/.test(ma.toString()) },
    ...opts.libp2p
  }), opts.bitswap)
  await helia.start()
  return helia
}
