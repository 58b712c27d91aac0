import { driverMissing } from '../common/options.ts'

export interface PostgresQuery {
  readonly text: string
  readonly values?: readonly unknown[]
}

/** The slice of pg's `Client` that the store uses. */
export interface PostgresClient {
  /** The server process behind this connection, as it was told at the start; a pooler makes one up. */
  readonly processID?: number | null
  connect(): Promise<unknown>
  query(query: { text: string; values?: unknown[]; name?: string }): Promise<{ rows: unknown[] }>
  on(event: 'notification', listener: (message: { channel: string; payload?: string }) => void): unknown
  on(event: 'error' | 'end', listener: (error?: Error) => void): unknown
  end(): Promise<void>
}

export interface PostgresPoolClient extends Pick<PostgresClient, 'processID' | 'query'> {
  on(event: 'error', listener: () => void): unknown
  release(destroy?: boolean | Error): void
}

/** The slice of pg's `Pool` that the store uses: give it one of your own, and it will not be ended by the store. */
export interface PostgresPool {
  /** What the pool connects with; the store's own listening connection takes it where no URL is given. */
  readonly options?: { readonly max?: number; readonly password?: unknown }
  connect(): Promise<PostgresPoolClient>
  on(event: 'error', listener: (error: Error) => void): unknown
  off(event: 'error', listener: (error: Error) => void): unknown
  end(): Promise<void>
}

export interface PostgresDriver {
  readonly Pool: new (config: object) => PostgresPool
  readonly Client: new (config: object) => PostgresClient
}

/** Loads `pg` on first use: who stores elsewhere need not have it. */
export async function loadDriver(): Promise<PostgresDriver> {
  try {
    const { default: pg } = await import('pg')
    return pg as unknown as PostgresDriver
  } catch (cause) {
    throw driverMissing('pg', cause)
  }
}
