import type { Framing, Plan } from './plan.ts'

/** What stands for `{name}` on one side. */
export type Names = (name: string) => string

export interface Rendered {
  readonly bytes: Buffer
  /** More or less than one well-framed request: its connection is used for nothing else. */
  readonly odd: boolean
}

const ORDINARY: ReadonlySet<Framing> = new Set(['length', 'chunked', 'chunked, with extension and trailer'])

export function fill(text: string, names: Names): string {
  return text.replace(/\{([\w.-]+)\}/g, (_, name: string) => names(name))
}

export function bodyOf({ body, coding }: Plan, names: Names): Buffer | undefined {
  if (body === undefined) return undefined
  let bytes: Buffer = Buffer.from(fill(body, names))
  for (const code of coding) bytes = code(bytes)
  return bytes
}

/** A plan as the bytes that go to one side. */
export function render(plan: Plan, names: Names): Rendered {
  const head = [`${plan.method} ${fill(plan.target, names)} ${plan.version}`]
  for (const [name, value] of plan.headers) head.push(`${fill(name, names)}: ${fill(value, names)}`)
  const { lines, content } = framed(bodyOf(plan, names), plan.framing)
  const newline = plan.framing === 'LF only' ? '\n' : '\r\n'
  const start = plan.framing === 'empty line first' ? '\r\n' : ''
  const whole = Buffer.concat([
    Buffer.from(`${start}${[...head, ...lines, '', ''].join(newline)}`, 'latin1'),
    content,
  ])
  const bytes = plan.framing === 'twice' ? Buffer.concat([whole, whole]) : whole
  const odd =
    !ORDINARY.has(plan.framing) ||
    plan.version !== 'HTTP/1.1' ||
    plan.headers.some(([name, value]) => ODD.test(name) || value.includes('\n'))
  return { bytes, odd }
}

/** These say how the message ends, or what comes after it. */
const ODD = /^(?:content-length|transfer-encoding|expect|upgrade|connection)$/i

function framed(body: Buffer | undefined, framing: Framing): { lines: string[]; content: Buffer } {
  if (!body) return { lines: [], content: Buffer.alloc(0) }
  const length = `Content-Length: ${body.byteLength}`
  switch (framing) {
    case 'chunked':
      return { lines: ['Transfer-Encoding: chunked'], content: chunked(body, '', '') }
    case 'chunked, with extension and trailer':
      return {
        lines: ['Transfer-Encoding: chunked'],
        content: chunked(body, ';a=b', 'Mcp-Session-Id: x\r\n'),
      }
    case 'length and chunked':
      return { lines: [length, 'Transfer-Encoding: chunked'], content: chunked(body, '', '') }
    case 'two lengths':
      return { lines: [length, 'Content-Length: 0'], content: body }
    case 'too short':
      return { lines: [`Content-Length: ${body.byteLength >> 1}`], content: body }
    case 'none':
      return { lines: [], content: body }
    default:
      return { lines: [length], content: body }
  }
}

/** In two parts, where there is enough. */
function chunked(body: Buffer, extension: string, trailer: string): Buffer {
  const half = body.byteLength >> 1
  const parts = [body.subarray(0, half), body.subarray(half)].filter((part) => part.byteLength > 0)
  const chunks = parts.flatMap((part) => [
    Buffer.from(`${part.byteLength.toString(16)}${extension}\r\n`),
    part,
    Buffer.from('\r\n'),
  ])
  return Buffer.concat([...chunks, Buffer.from(`0\r\n${trailer}\r\n`)])
}
