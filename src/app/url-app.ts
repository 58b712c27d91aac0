import http from 'node:http'
import https from 'node:https'
import type { App, AppRequest, AppResponse, HeaderPairs } from './app.ts'

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'transfer-encoding',
  'upgrade',
  'host',
  'content-length',
])

/**
 * An app in another process, by its URL. `node:http` rather than the global `fetch`, which ends a response that is
 * silent for five minutes, as an idle stream may well be.
 */
export class UrlApp implements App {
  readonly #origin: URL
  readonly #agent: http.Agent

  constructor(url: URL) {
    this.#origin = url
    const options = { keepAlive: true, maxFreeSockets: 64 }
    this.#agent = url.protocol === 'https:' ? new https.Agent(options) : new http.Agent(options)
  }

  fetch(request: AppRequest): Promise<AppResponse> {
    const { request: send } = this.#origin.protocol === 'https:' ? https : http
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(request.headers)) {
      if (!HOP_BY_HOP.has(name)) headers[name] = value
    }
    if (request.body) headers['content-length'] = String(request.body.byteLength)
    return new Promise((resolve, reject) => {
      const outgoing = send(
        new URL(request.url, this.#origin),
        {
          method: request.method,
          headers,
          agent: this.#agent,
        },
        (response) =>
          resolve({
            status: response.statusCode!,
            headers: responsePairs(response),
            body: untilCancelled(response),
            cancel: () => response.destroy(),
          }),
      )
      outgoing.on('error', reject)
      const forget = request.signal?.onStop(() => outgoing.destroy())
      outgoing.on('close', () => forget?.())
      outgoing.end(request.body)
    })
  }

  async close(): Promise<void> {
    this.#agent.destroy()
  }
}

/** A response destroyed on purpose has ended; it has not failed. */
async function* untilCancelled(response: http.IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    yield* response
  } catch (error) {
    if (response.complete || !response.destroyed) throw error
    if ((error as { code?: string }).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error
  }
}

function responsePairs(response: http.IncomingMessage): HeaderPairs {
  const pairs: [string, string][] = []
  for (let i = 0; i + 1 < response.rawHeaders.length; i += 2) {
    const name = response.rawHeaders[i]!.toLowerCase()
    if (!HOP_BY_HOP.has(name)) pairs.push([name, response.rawHeaders[i + 1]!])
  }
  return pairs
}
