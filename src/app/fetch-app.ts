import type { App, AppRequest, AppResponse } from './app.ts'
import { withSessionId } from './persistent-session-id.ts'
import { fromWebResponse, notForFetch, webRequest } from './web.ts'

/** Anything with a web-standard `fetch`, such as Hono. The second argument is what `@hono/node-server` gives. */
export interface Fetcher {
  fetch(request: Request, env?: unknown): Response | Promise<Response>
}

/** Calls an app through its `fetch`, in this process. */
export class FetchApp implements App {
  readonly #fetcher: Fetcher

  constructor(fetcher: Fetcher) {
    this.#fetcher = fetcher
  }

  async fetch(request: AppRequest): Promise<AppResponse> {
    const refused = notForFetch(request)
    if (refused) return refused
    const { remote } = request
    const socket = remote && {
      remoteAddress: remote.address,
      remotePort: remote.port,
      encrypted: remote.encrypted,
      ...(remote.encrypted && {
        authorized: remote.certificate?.authorized ?? false,
        getPeerCertificate: (detailed?: boolean) => remote.certificate?.getPeerCertificate(detailed) ?? {},
      }),
    }
    const response = await withSessionId(request.sessionId, async () =>
      this.#fetcher.fetch(webRequest(request), socket ? { incoming: { socket } } : {}),
    )
    return fromWebResponse(response)
  }

  async close(): Promise<void> {}
}
