import type { SessionState } from '../../store/port.ts'
import type { Request } from '../protocol/json-rpc.ts'

/**
 * What a client has told its session that a rehydrated instance must be told again: the state after the app has
 * carried out `request`. The same object when the request changes nothing.
 */
export function stateAfter(state: SessionState, { method, params }: Request): SessionState {
  switch (method) {
    case 'logging/setLevel':
      return typeof params?.['level'] === 'string' ? { ...state, logLevel: params['level'] } : state
    case 'resources/subscribe':
      return withSubscriptions(state, (uris) =>
        typeof params?.['uri'] === 'string' ? uris.add(params['uri']) : uris,
      )
    case 'resources/unsubscribe':
      return withSubscriptions(state, (uris) => {
        uris.delete(String(params?.['uri']))
        return uris
      })
    default:
      return state
  }
}

function withSubscriptions(state: SessionState, change: (uris: Set<string>) => Set<string>): SessionState {
  return { ...state, subscriptions: [...change(new Set(state.subscriptions))] }
}

// Bytes of all URIs: the state is written whole at each change.
const MAX_URI_BYTES = 256 * 1024

/** Would it have more subscriptions than a session may have, in number or in bytes? What takes some away may pass. */
export function isFull(next: SessionState, now: SessionState, most: number): boolean {
  const uris = next.subscriptions ?? []
  if (uris.length <= (now.subscriptions?.length ?? 0)) return false
  if (most === Number.POSITIVE_INFINITY) return false
  return uris.length > most || uris.reduce((sum, uri) => sum + Buffer.byteLength(uri), 0) > MAX_URI_BYTES
}

const CHANGES_STATE = new Set(['logging/setLevel', 'resources/subscribe', 'resources/unsubscribe'])

export function changesState({ method }: Request): boolean {
  return CHANGES_STATE.has(method)
}

/** The requests that bring a fresh instance to `state`, after `initialize` and `notifications/initialized`. */
export function stateRequests({
  logLevel,
  subscriptions = [],
}: SessionState): readonly Omit<Request, 'id'>[] {
  const level = logLevel === undefined ? [] : [{ method: 'logging/setLevel', params: { level: logLevel } }]
  return [...level, ...subscriptions.map((uri) => ({ method: 'resources/subscribe', params: { uri } }))]
}

/** Is it a session of that endpoint? Whoever does not ask, knows; a record that does not say is of any. */
export function isAt({ endpoint }: SessionState, asked: string | undefined): boolean {
  return asked === undefined || endpoint === undefined || endpoint === asked
}
