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
