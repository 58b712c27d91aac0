import type { Store } from 'mcp-persist'

export interface Observer {
  /** An operation begins; what is returned is called with its result when it has succeeded. */
  begin(operation: string, args: readonly unknown[]): (result: unknown) => void
  /** A text or a message was heard. */
  wake?(): void
}

const PARTS = new Set<string | symbol>(['log', 'sessions', 'nodes', 'bus'])

/** The same store, with somebody who looks on at every operation of the port. */
export function observed(store: Store, observer: Observer): Store {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target)
      if (PARTS.has(name)) return part(String(name), value as object, observer)
      if (name === 'sweep') return watch('sweep', target.sweep.bind(target) as Operation, observer)
      // Private fields are on the target, not on us.
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

type Operation = (...args: unknown[]) => Promise<unknown>

function part(name: string, object: object, observer: Observer): object {
  return new Proxy(object, {
    get(target, method) {
      const value: unknown = Reflect.get(target, method, target)
      if (typeof value !== 'function') return value
      const operation = value.bind(target) as Operation
      if (method !== 'subscribe' && method !== 'receive')
        return watch(`${name}.${String(method)}`, operation, observer)
      return (where: string, onHeard: (heard: unknown) => void) =>
        operation(where, (heard: unknown) => {
          observer.wake?.()
          onHeard(heard)
        })
    },
  })
}

function watch(name: string, operation: Operation, observer: Observer): Operation {
  return async (...args) => {
    const done = observer.begin(name, args)
    const result = await operation(...args)
    done(result)
    return result
  }
}
