import { InMemoryEventStore } from './in-memory-event-store.ts'
import type { NodeTransport, Sdk, SessionOptions, WebTransport } from './sdk-lines.ts'

function transportOptions({ generateId, onOpen, eventStore, json }: SessionOptions) {
  return {
    sessionIdGenerator: generateId,
    onsessioninitialized: onOpen,
    enableJsonResponse: json,
    ...(eventStore && { eventStore: new InMemoryEventStore(), retryInterval: 20 }),
  }
}

interface Ending {
  sessionId?: string | undefined
  onclose?: (() => void) | undefined
}

type TransportClass<T> = new (options: ReturnType<typeof transportOptions>) => T

/** How sessions are opened on a line, by its two transports and its server. */
export function openings<N extends NodeTransport & Ending, W extends WebTransport & Ending>(
  node: TransportClass<N>,
  web: TransportClass<W>,
  connect: (transport: N | W, options: SessionOptions) => Promise<void>,
): Pick<Sdk, 'openNodeSession' | 'openWebSession'> {
  const opened = async <T extends N | W>(transport: T, options: SessionOptions): Promise<T> => {
    transport.onclose = () => options.onClose(transport.sessionId ?? '')
    await connect(transport, options)
    return transport
  }
  return {
    openNodeSession: (options) => opened(new node(transportOptions(options)), options),
    openWebSession: (options) => opened(new web(transportOptions(options)), options),
  }
}
