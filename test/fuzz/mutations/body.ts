import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync } from 'node:zlib'
import type { Random } from '../../simulator/random.ts'
import { effect, initialize } from '../operations.ts'
import { type Mutation, type Plan, setHeader } from '../plan.ts'

/** The body in another encoding, spoilt, or saying something else. */
export function mutateBody(plan: Plan, random: Random): void {
  if (plan.body === undefined) {
    if (random.chance(0.5)) return
    effect(plan, random)
  }
  const [name, mutation] = random.pick(Object.entries(random.chance(0.4) ? ENCODINGS : CONTENTS))
  mutation(plan, random)
  plan.story.push(`body ${name}`)
}

function encoded(name: string, code: (body: Buffer) => Buffer): Mutation {
  return (plan) => {
    setHeader(plan, 'Content-Encoding', name)
    plan.coding.push(code)
    plan.encodings.push(code)
  }
}

const ENCODINGS: Readonly<Record<string, Mutation>> = {
  gzip: encoded('gzip', (body) => gzipSync(body)),
  'x-gzip': encoded('x-gzip', (body) => gzipSync(body)),
  deflate: encoded('deflate', (body) => deflateSync(body)),
  'raw deflate': encoded('deflate', (body) => deflateRawSync(body)),
  brotli: encoded('br', (body) => brotliCompressSync(body)),
  'called GZIP': encoded('GZIP', (body) => gzipSync(body)),
  identity: encoded('identity', (body) => body),
  'gzip that is none': encoded('gzip', (body) => body),
  'half a gzip': encoded('gzip', (body) => gzipSync(body).subarray(0, 12)),
  'gzip and more': encoded('gzip', (body) => Buffer.concat([gzipSync(body), Buffer.from('more')])),
  'gzip twice': encoded('gzip, gzip', (body) => gzipSync(gzipSync(body))),
  'unknown encoding': encoded('zstd', (body) => body),
  'nameless encoding': encoded('', (body) => body),
  'named like a method': encoded('constructor', (body) => body),
}

function rewritten(change: (body: string, plan: Plan, random: Random) => string): Mutation {
  return (plan, random) => {
    plan.body = change(plan.body!, plan, random)
  }
}

/** Another id for the request, and one that nothing else has. */
function identified(id: (number: number) => string): Mutation {
  return rewritten((body, { number }) => body.replace(/"id":\d+/, () => `"id":${id(number)}`))
}

const CONTENTS: Readonly<Record<string, Mutation>> = {
  'cut short': rewritten((body) => body.slice(0, -1)),
  empty: rewritten(() => ''),
  'not JSON-RPC': rewritten((_, __, random) =>
    random.pick(['{}', '[]', 'null', '1', '"x"', '[[]]', '[null]', '{"jsonrpc":"2.0"}', 'true']),
  ),
  'in a list': rewritten((body) => `[${body}]`),
  'twice in a list': rewritten((body) => `[${body},${body}]`),
  'in a list in a list': rewritten((body) => `[[${body}]]`),
  'with an initialize': (plan, random) => {
    const { body } = plan
    initialize(plan)
    plan.body = random.chance(0.5) ? `[${body},${plan.body}]` : `[${plan.body},${body}]`
  },
  'another version': rewritten((body) => body.replace('"2.0"', '"1.0"')),
  'with a prototype': rewritten((body) => body.replace('{', '{"__proto__":{"id":1},"constructor":{},')),
  'a key twice': rewritten((body) => body.replace('{', '{"method":"initialize","id":7,')),
  'a key twice, the other first': rewritten((body) => body.replace(/\}$/, ',"method":"ping"}')),
  deep: rewritten((body) =>
    body.replace('"params":', `"deep":${'['.repeat(500)}${']'.repeat(500)},"params":`),
  ),
  'very deep': rewritten(() => '['.repeat(20_000)),
  'with a byte order mark': rewritten((body) => `\ufeff${body}`),
  'in UTF-16': (plan) => void plan.coding.push((body) => Buffer.from(body.toString(), 'utf16le')),
  'not UTF-8': (plan) =>
    void plan.coding.push((body) => Buffer.concat([body.subarray(0, -1), Buffer.from([0xff, 0x7d])])),
  'with NUL': rewritten((body) => `${body}\u0000`),
  'among spaces': rewritten((body) => ` \r\n\t${body}\n\n`),
  'a lone surrogate': rewritten((body) => body.replace('"params":{', '"params":{"x":"\\ud800",')),
  'params a list': rewritten((body) => body.replace(/"params":\{\}/, '"params":[]')),
  'a meta': rewritten((body) => body.replace('"params":{', '"params":{"_meta":{"progressToken":"p"},')),
  'with a task': rewritten((body) => body.replace('"params":{', '"params":{"task":{"ttl":1000},')),
  'of 70 kB': rewritten((body) => body.replace('{', `{"pad":"${'x'.repeat(70_000)}",`)),
  'id a text': identified((n) => `"n${n}"`),
  'id like ours': identified((n) => `"mcp-persist-${n}"`),
  'id like a stored one': identified((n) => `"{alice.main.event}-${n}"`),
  'id negative': identified((n) => `-${n + 1}`),
  'id a fraction': identified((n) => `${n}.5`),
  'id huge': identified((n) => `9007199254${n + 1_000_000}`),
  'id null': identified(() => 'null'),
  'id a list': identified((n) => `[${n}]`),
  'id an object': identified((n) => `{"a":${n}}`),
  'id true': identified(() => 'true'),
  'id with NUL': identified((n) => `"${n}\\u0000"`),
  'id long': identified((n) => `"${n}${'x'.repeat(5000)}"`),
  'of more than is taken': (plan, random) => {
    if (random.chance(0.02)) plan.body = `{"pad":"${'x'.repeat(4_200_000)}",${plan.body!.slice(1)}`
  },
}
