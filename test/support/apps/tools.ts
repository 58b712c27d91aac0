import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import type { Journal } from '../journal.ts'

/** On the stream of the call that is being handled, or on the session's standalone stream. */
export type Via = 'call' | 'standalone'
export type LogLevel = 'debug' | 'info' | 'warning' | 'error'

/** What a tool can do, the same on both SDK lines. */
export interface ToolContext {
  readonly sessionId: string | undefined
  readonly signal: AbortSignal
  /** Does nothing when the client gave no progress token. */
  progress(progress: number, total: number): Promise<void>
  /** On `standalone` it goes through the SDK's filter by log level; on `call` always. */
  log(data: string, via: Via, level?: LogLevel): Promise<void>
  sample(prompt: string, via: Via): Promise<string>
  elicit(message: string, via: Via): Promise<unknown>
  roots(via: Via): Promise<string[]>
  ping(): Promise<void>
  closeStream(): void
  closeStandaloneStream(): void
  client(): { name: string | undefined; capabilities: unknown }
  resourceUpdated(uri: string): Promise<void>
  toolsChanged(): void | Promise<void>
  registerTool(name: string): void
}

/** One object for each live instance of a server: what an app keeps in its closures. */
export interface ServerState {
  counter: number
  readonly subscriptions: Set<string>
  readonly journal: Journal
}

export interface ToolDefinition {
  readonly name: string
  readonly annotations?: { readOnlyHint?: boolean; idempotentHint?: boolean } | undefined
  readonly input: z.ZodRawShape
  run(args: Record<string, unknown>, context: ToolContext, state: ServerState): Promise<string>
}

function tool<Shape extends z.ZodRawShape>(definition: {
  name: string
  annotations?: ToolDefinition['annotations']
  input: Shape
  run(args: z.infer<z.ZodObject<Shape>>, context: ToolContext, state: ServerState): Promise<string> | string
}): ToolDefinition {
  const { run, ...rest } = definition
  return {
    ...rest,
    run: async (args, context, state) => {
      const from = performance.now()
      try {
        return await run(args as z.infer<z.ZodObject<Shape>>, context, state)
      } finally {
        state.journal.note({ what: 'ran', tool: rest.name, ms: performance.now() - from })
      }
    },
  }
}

const via = z.enum(['call', 'standalone']).default('call')
const tag = z.string().default('')

/** Steps with progress and a log line each, all of it in the journal: the tool that is running when things break. */
const steps = { tag, steps: z.number().default(3), ms: z.number().default(10) }
async function slow(
  name: string,
  { tag, steps, ms }: { tag: string; steps: number; ms: number },
  context: ToolContext,
  { journal }: ServerState,
): Promise<string> {
  const session = context.sessionId
  journal.note({ what: 'start', tool: name, tag, session })
  for (let step = 1; step <= steps; step++) {
    try {
      await sleep(ms, undefined, { signal: context.signal })
    } catch (error) {
      journal.note({ what: 'aborted', tag, session })
      throw error
    }
    journal.note({ what: 'sent', tag, data: `${tag}:${step}`, session })
    await context.progress(step, steps)
    await context.log(`${tag}:${step}`, 'call')
  }
  journal.note({ what: 'end', tag, session })
  return `${tag} done after ${steps}`
}

function slowTool(name: string, annotations?: ToolDefinition['annotations']): ToolDefinition {
  return tool({
    name,
    annotations,
    input: steps,
    run: (args, context, state) => slow(name, args, context, state),
  })
}

export const tools: readonly ToolDefinition[] = [
  tool({
    name: 'echo',
    annotations: { readOnlyHint: true },
    input: { text: z.string() },
    run: ({ text }) => text,
  }),
  tool({
    name: 'add',
    annotations: { readOnlyHint: true, idempotentHint: true },
    input: { a: z.number(), b: z.number() },
    run: ({ a, b }) => String(a + b),
  }),
  slowTool('slow'),
  slowTool('slow_read_only', { readOnlyHint: true }),
  slowTool('slow_idempotent', { idempotentHint: true }),
  tool({
    name: 'burst',
    input: { tag, count: z.number(), via },
    run: async ({ tag, count, via }, context, { journal }) => {
      const sends: Promise<void>[] = []
      for (let index = 1; index <= count; index++) {
        journal.note({ what: 'sent', tag, data: `${tag}:${index}`, via, session: context.sessionId })
        sends.push(context.log(`${tag}:${index}`, via, 'error'))
      }
      await Promise.all(sends)
      return `${tag} sent ${count}`
    },
  }),
  tool({
    name: 'later',
    input: { tag, count: z.number().default(1), ms: z.number().default(10) },
    run: ({ tag, count, ms }, context, { journal }) => {
      // The call is over before the first of these: they belong to the standalone stream.
      const send = async () => {
        for (let index = 1; index <= count; index++) {
          await sleep(ms)
          journal.note({ what: 'sent', tag, data: `${tag}:${index}`, via: 'standalone' })
          await context.log(`${tag}:${index}`, 'standalone', 'error')
        }
      }
      send().catch((error: unknown) => journal.note({ what: 'failed', tag, error: String(error) }))
      return `${tag} will send ${count}`
    },
  }),
  tool({
    name: 'sample',
    input: { prompt: z.string(), via },
    run: async ({ prompt, via }, context, { journal }) => {
      journal.note({ what: 'sampling', prompt, session: context.sessionId })
      const answer = await context.sample(prompt, via)
      journal.note({ what: 'sampled', prompt, answer, session: context.sessionId })
      return `${prompt} -> ${answer}`
    },
  }),
  tool({
    name: 'elicit',
    input: { message: z.string(), via },
    run: async ({ message, via }, context, { journal }) => {
      journal.note({ what: 'eliciting', message })
      return JSON.stringify(await context.elicit(message, via))
    },
  }),
  tool({
    name: 'roots',
    input: { via },
    run: async ({ via }, context) => (await context.roots(via)).join(' '),
  }),
  tool({
    name: 'ping',
    input: {},
    run: async (_, context) => {
      await context.ping()
      return 'pong'
    },
  }),
  tool({
    name: 'cut',
    input: { tag, before: z.number().default(1), after: z.number().default(2), ms: z.number().default(10) },
    run: async ({ tag, before, after, ms }, context, { journal }) => {
      for (let index = 1; index <= before + after; index++) {
        if (index === before + 1) context.closeStream()
        await sleep(ms)
        journal.note({ what: 'sent', tag, data: `${tag}:${index}` })
        await context.log(`${tag}:${index}`, 'call')
      }
      return `${tag} cut after ${before}`
    },
  }),
  tool({
    name: 'cut_standalone',
    input: { tag, count: z.number().default(2) },
    run: async ({ tag, count }, context, { journal }) => {
      context.closeStandaloneStream()
      for (let index = 1; index <= count; index++) {
        journal.note({ what: 'sent', tag, data: `${tag}:${index}`, via: 'standalone' })
        await context.log(`${tag}:${index}`, 'standalone', 'error')
      }
      return `${tag} cut, sent ${count}`
    },
  }),
  tool({
    name: 'counter',
    input: {},
    run: (_, _context, state) => {
      state.counter += 1
      return String(state.counter)
    },
  }),
  tool({
    name: 'touch',
    input: { uri: z.string() },
    run: async ({ uri }, context, { subscriptions }) => {
      if (!subscriptions.has(uri)) return 'nobody subscribed'
      await context.resourceUpdated(uri)
      return 'updated'
    },
  }),
  tool({
    name: 'subscriptions',
    annotations: { readOnlyHint: true },
    input: {},
    run: (_, _context, { subscriptions }) => [...subscriptions].sort().join(' '),
  }),
  tool({
    name: 'log',
    input: { tag, via: z.enum(['call', 'standalone']).default('standalone') },
    run: async ({ tag, via }, context) => {
      for (const level of ['debug', 'info', 'warning', 'error'] as const) {
        await context.log(`${tag}:${level}`, via, level)
      }
      return 'logged at every level'
    },
  }),
  tool({
    name: 'list_changed',
    input: {},
    run: async (_, context) => {
      await context.toolsChanged()
      return 'told'
    },
  }),
  tool({
    name: 'register_tool',
    input: { name: z.string() },
    run: ({ name }, context) => {
      context.registerTool(name)
      return `registered ${name}`
    },
  }),
  tool({ name: 'session_id', input: {}, run: (_, context) => String(context.sessionId) }),
  tool({ name: 'client', input: {}, run: (_, context) => JSON.stringify(context.client()) }),
  tool({
    name: 'fail',
    input: { message: z.string().default('it failed') },
    run: ({ message }) => {
      throw new Error(message)
    },
  }),
  tool({
    name: 'big',
    annotations: { readOnlyHint: true },
    input: { mib: z.number() },
    run: ({ mib }) => 'é'.repeat((mib * 1024 * 1024) / 2),
  }),
]

export const resourceUri = 'test://greeting'
export const resourceText = 'Hello from a resource'
export const promptColors = ['red', 'green', 'blue']
