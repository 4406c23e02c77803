// A WebM file of one VP8 track, with an index at its end: what a player has to ask ranges for. https://www.matroska.org/technical/elements.html
export function webm (width, height, frames, frameMs) { // frames: {ms, key, data}
  const size = n => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); b[0] = 1; return b } // a length of eight bytes, always
  const element = (id, ...parts) => { const body = Buffer.concat(parts); return Buffer.concat([Buffer.from(id, 'hex'), size(body.length), body]) }
  const uint = (id, n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return element(id, b) }
  const float = (id, n) => { const b = Buffer.alloc(8); b.writeDoubleBE(n); return element(id, b) }
  const string = (id, text) => element(id, Buffer.from(text))

  const header = element('1a45dfa3', uint('4286', 1), uint('42f7', 1), uint('42f2', 4), uint('42f3', 8), string('4282', 'webm'), uint('4287', 2), uint('4285', 2))
  const info = element('1549a966', uint('2ad7b1', 1_000_000), float('4489', frames.at(-1).ms + frameMs), string('4d80', 'estuary'), string('5741', 'estuary'))
  const tracks = element('1654ae6b', element('ae', uint('d7', 1), uint('73c5', 1), uint('83', 1), uint('9c', 0), string('86', 'V_VP8'), element('e0', uint('b0', width), uint('ba', height))))
  const seekHead = cuesAt => element('114d9b74', ...[['1549a966', 0], ['1654ae6b', info.length], ['1c53bb6b', cuesAt]].map(([id, at]) => element('4dbb', element('53ab', Buffer.from(id, 'hex')), uint('53ac', headSize + at))))
  let headSize = 0
  headSize = seekHead(0).length

  const groups = [] // a cluster from each key frame on
  for (const frame of frames) { if (frame.key) groups.push([]); groups.at(-1).push(frame) }
  const block = (frame, start) => { const head = Buffer.from([0x81, 0, 0, frame.key ? 0x80 : 0]); head.writeInt16BE(frame.ms - start, 1); return element('a3', head, frame.data) }
  const clusters = groups.map(group => element('1f43b675', uint('e7', group[0].ms), ...group.map(frame => block(frame, group[0].ms))))
  let at = info.length + tracks.length
  const cues = groups.map((group, n) => { const point = element('bb', uint('b3', group[0].ms), element('b7', uint('f7', 1), uint('f1', headSize + at))); at += clusters[n].length; return point })
  return Buffer.concat([header, element('18538067', seekHead(at), info, tracks, ...clusters, element('1c53bb6b', ...cues))])
}
