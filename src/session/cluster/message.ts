/**
 * What one node sends to another: a header in the clear, then a bundle of items that only the receiver can open.
 *
 *     0       version of the bundle; 0: "I do not speak that version", and nothing follows the header
 *     1       length of the sender's id
 *     2       the sender's id
 *     then    sealed: 4 bytes length of the items, the items as JSON, their bodies one behind the other
 *
 * The header never changes, whatever the version: so any release can tell any other that it does not understand.
 */
const NOT_SPOKEN = 0

/** Something one node says to another. `size` is the length of its body, which travels beside the JSON. */
export interface Item {
  readonly type: string
  readonly size?: number
}

export interface Addressed<I extends Item> {
  readonly item: I
  readonly body?: Uint8Array | undefined
}

export interface Envelope {
  readonly version: number
  readonly from: string
  /** Authenticated, though not sealed. */
  readonly header: Uint8Array
  readonly sealed: Uint8Array
}

export function header(from: string, version: number): Buffer {
  const id = Buffer.from(from)
  return Buffer.concat([Buffer.from([version, id.byteLength]), id])
}

export function notSpoken(from: string): Buffer {
  return header(from, NOT_SPOKEN)
}

export function isNotSpoken({ version }: Envelope): boolean {
  return version === NOT_SPOKEN
}

/** Throws on what cannot be a message. */
export function openEnvelope(message: Uint8Array): Envelope {
  const bytes = asBuffer(message)
  const end = 2 + bytes.readUInt8(1)
  if (end > bytes.byteLength) throw new RangeError('The message is shorter than its header.')
  return {
    version: bytes.readUInt8(0),
    from: bytes.toString('utf8', 2, end),
    header: bytes.subarray(0, end),
    sealed: bytes.subarray(end),
  }
}

/** An item on its way: as text, made once, by which its size is known before it is bundled. */
export interface Encoded {
  readonly json: string
  readonly body: Uint8Array | undefined
}

export function encodeItem(item: Item, body?: Uint8Array): Encoded {
  return { json: JSON.stringify(body ? { ...item, size: body.byteLength } : item), body }
}

/** About how many bytes it takes. */
export function sizeOf({ json, body }: Encoded): number {
  return json.length + (body?.byteLength ?? 0)
}

export function encodeBundle(parts: readonly Encoded[]): Buffer {
  const json = Buffer.from(`[${parts.map((part) => part.json).join(',')}]`)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.byteLength)
  return Buffer.concat([length, json, ...parts.flatMap(({ body }) => (body ? [body] : []))])
}

export function decodeBundle<I extends Item>(bundle: Buffer): Addressed<I>[] {
  let at = 4 + bundle.readUInt32BE(0)
  const items = JSON.parse(bundle.toString('utf8', 4, at)) as I[]
  return items.map((item) => {
    if (item.size === undefined) return { item }
    const body = bundle.subarray(at, at + item.size)
    at += item.size
    return { item, body }
  })
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
