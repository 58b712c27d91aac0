import { normalPath, type RequestShape } from './request-shape.ts'

/** Where a request found the endpoint. */
export interface Endpoint {
  /** What a session's record calls it: two that an app may tell apart never have the same. */
  readonly name: string
  /** As the option "path" spells it, with the parameters that the request has. */
  readonly path: string
}

interface Pattern {
  readonly segments: readonly (Literal | 'parameter')[]
}

interface Literal {
  readonly text: string
  readonly normal: string
}

/** The paths of the option "path", to be found in any spelling. */
export class Endpoints {
  readonly #fixed = new Map<string, Endpoint>()
  readonly #patterns: Pattern[] = []
  /** For what is no request's own: a path of ours, or what comes nearest to one. */
  readonly home: string

  constructor(paths: readonly string[]) {
    for (const path of paths) {
      const name = normalPath(path)
      if (path.includes('/:')) this.#patterns.push({ segments: segmentsOf(path).map(toSegment) })
      else if (!this.#fixed.has(name)) this.#fixed.set(name, { name, path })
    }
    const [fixed] = this.#fixed.values()
    this.home = fixed?.path ?? paths[0]!
  }

  find(shape: RequestShape): Endpoint | undefined {
    const fixed = this.#fixed.get(shape.path)
    if (fixed || this.#patterns.length === 0) return fixed
    const asked = segmentsOf(pathOf(shape.url))
    const normal = segmentsOf(shape.path)
    // A segment is what it is to everybody only where it is one by itself: none that an encoded slash, or two dots, make or undo.
    if (asked.length !== normal.length || asked.some((each, i) => normalPath(`/${each}`) !== `/${normal[i]}`))
      return undefined
    for (const { segments } of this.#patterns) {
      const isHere = (each: Literal | 'parameter', i: number) =>
        each === 'parameter' || each.normal === normal[i]
      if (segments.length === normal.length && segments.every(isHere)) return endpointOf(segments, asked)
    }
    return undefined
  }
}

/**
 * A parameter stands in the name as it was sent: whether the app takes two spellings of it for the same tenant, only the app
 * knows, and to be told apart costs a client no more than a 404.
 */
function endpointOf(segments: Pattern['segments'], asked: readonly string[]): Endpoint {
  const filled = (key: keyof Literal) =>
    `/${segments.map((each, i) => (each === 'parameter' ? asked[i] : each[key])).join('/')}`
  return { name: filled('normal'), path: filled('text') }
}

function toSegment(text: string): Literal | 'parameter' {
  return text.startsWith(':') ? 'parameter' : { text, normal: normalPath(`/${text}`).slice(1) }
}

/** A path as it was sent, but for slashes that say nothing: the name of an endpoint that no option names. */
export function plainName(url: string): string {
  return `/${segmentsOf(pathOf(url)).join('/')}`
}

function pathOf(url: string): string {
  return url.replace(/[?#].*$/s, '')
}

function segmentsOf(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '')
}
