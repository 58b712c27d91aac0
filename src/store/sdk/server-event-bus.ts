import { randomUUID } from 'node:crypto'
import { errorText } from '../../errors.ts'
import type { Logger } from '../../logger.ts'
import type { Bus, Subscription } from '../port.ts'

const CHANNEL = 'server-events'

/** The v2 SDK's `ServerEventBus`, as far as we implement it; its events are plain JSON. */
export interface ServerEventBus<E extends object = object> {
  publish(event: E): void
  /** Returns how to unsubscribe. */
  subscribe(listener: (event: E) => void): () => void
}

/**
 * Carries the change events of `createMcpHandler({ bus })` (2026-07-28, `subscriptions/listen`) to every node. Like
 * every wake-up they may be lost: that revision has no replay, clients read again what they care for.
 */
export function serverEventBus<E extends object>(bus: Bus, logger: Logger): ServerEventBus<E> {
  const self = randomUUID()
  const listeners = new Set<(event: E) => void>()
  let subscription: Promise<Subscription> | undefined

  const report = (operation: string) => (error: unknown) =>
    logger.error({ operation, channel: CHANNEL, error: errorText(error) }, 'a server event was not carried')

  const deliver = (event: E) => {
    for (const listener of [...listeners]) {
      try {
        listener(event)
      } catch (error) {
        report('listener')(error)
      }
    }
  }

  const open = () =>
    bus.subscribe(CHANNEL, (text) => {
      const heard = text === undefined ? undefined : parse(text)
      // What this node published, its listeners have heard already.
      if (heard && heard.from !== self) deliver(heard.event)
    })

  // It runs in nobody's promise: what somebody else has published must not end the process.
  const parse = (text: string) => {
    try {
      return JSON.parse(text) as { from: string; event: E } | null
    } catch (error) {
      report('receive')(error)
      return undefined
    }
  }

  return {
    publish(event) {
      deliver(event)
      bus.publish(CHANNEL, JSON.stringify({ from: self, event })).catch(report('publish'))
    },
    subscribe(listener) {
      listeners.add(listener)
      if (!subscription) {
        subscription = open()
        subscription.catch((error) => {
          subscription = undefined
          report('subscribe')(error)
        })
      }
      return () => {
        if (!listeners.delete(listener) || listeners.size > 0) return
        const closing = subscription
        subscription = undefined
        closing?.then((open) => open.close()).catch(report('unsubscribe'))
      }
    },
  }
}
