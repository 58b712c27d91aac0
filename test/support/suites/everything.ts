import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { InMemoryTaskStore } from '@modelcontextprotocol/sdk/experimental/tasks'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import {
  CallToolResultSchema,
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
  LoggingMessageNotificationSchema,
  type Result,
} from '@modelcontextprotocol/sdk/types.js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rootUri } from '../clients/official-client.ts'
import { textOf } from '../clients/raw-client.ts'
import { until } from '../wait.ts'

/** Every tool of the official reference server, tasks included, by the official client in one session. */
export function everything(
  name: string,
  start: () => Promise<{ url: string; close(): Promise<void> }>,
): void {
  describe(name, () => {
    let running: { url: string; close(): Promise<void> }
    let client: Client
    const logs: unknown[] = []
    const called = new Set<string>()

    beforeAll(async () => {
      running = await start()
      client = taskingClient()
      client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
        logs.push(params.data)
      })
      const transport = new StreamableHTTPClientTransport(new URL(running.url))
      await client.connect(transport as unknown as Transport)
      // The tools that depend on the client's capabilities appear when it has said that it is initialized.
      await until('the tools for this client', async () => {
        const { tools } = await client.listTools()
        return tools.some((tool) => tool.name === 'trigger-sampling-request-async')
      })
    })
    afterAll(async () => {
      await client.close()
      await running.close()
    })

    async function call(tool: string, args: Record<string, unknown> = {}): Promise<string> {
      called.add(tool)
      const result = await client.callTool({ name: tool, arguments: args })
      expect(result.isError, textOf(result)).not.toBe(true)
      return JSON.stringify(result)
    }

    it('answers by itself', async () => {
      expect(await call('echo', { message: 'hi' })).toContain('Echo: hi')
      expect(await call('get-sum', { a: 2, b: 3 })).toContain('5')
      expect(await call('get-annotated-message', { messageType: 'error', includeImage: true })).toContain(
        'image',
      )
      expect(await call('get-env')).toContain('PATH')
      expect(await call('get-resource-links', { count: 2 })).toContain('resource_link')
      expect(await call('get-resource-reference', { resourceType: 'Blob', resourceId: 2 })).toContain('blob')
      expect(await call('get-structured-content', { location: 'Chicago' })).toContain('structuredContent')
      expect(await call('get-tiny-image')).toContain('image/png')
      const data = `data:text/plain;base64,${Buffer.from('zip me').toString('base64')}`
      expect(await call('gzip-file-as-resource', { name: 'x.gz', data })).toContain('resource_link')
    })

    it('asks its client', async () => {
      expect(await call('get-roots-list')).toContain(rootUri)
      expect(await call('trigger-sampling-request', { prompt: 'hi' })).toContain('a sampled text')
      expect(await call('trigger-elicitation-request')).toContain('Ada')
    })

    it('reports progress', async () => {
      called.add('trigger-long-running-operation')
      const progress: number[] = []
      const params = { name: 'trigger-long-running-operation', arguments: { duration: 0.2, steps: 4 } }
      await client.callTool(params, undefined, { onprogress: (event) => progress.push(event.progress) })
      expect(progress).toEqual([1, 2, 3, 4])
    })

    it('logs and updates on the standalone stream', async () => {
      await client.setLoggingLevel('debug')
      await client.subscribeResource({ uri: 'demo://resource/dynamic/text/1' })
      expect(await call('toggle-simulated-logging')).toContain('Started')
      expect(await call('toggle-subscriber-updates')).toContain('Started')
      await until('a simulated log line', () => logs.length > 0, 15_000)
      expect(await call('toggle-simulated-logging')).toContain('Stopped')
      expect(await call('toggle-subscriber-updates')).toContain('Stopped')
    })

    it('runs tasks, its own and those of its client', async () => {
      const [research, sampled, elicited] = await Promise.all([
        researched(client),
        call('trigger-sampling-request-async', { prompt: 'later' }),
        call('trigger-elicitation-request-async'),
      ])
      called.add('simulate-research-query')
      expect(research).toContain('Research Report')
      expect(research).toContain('technical')
      expect(sampled).toContain('[COMPLETED]')
      expect(elicited).toContain('[COMPLETED]')
    })

    it('has no tool that was not called', async () => {
      const { tools } = await client.listTools()
      expect(tools.map((tool) => tool.name).filter((tool) => !called.has(tool))).toEqual([])
    })
  })
}

/** A tool call that is a task, with a question to the user in the middle. */
async function researched(client: Client): Promise<string> {
  const params = { name: 'simulate-research-query', arguments: { topic: 'python', ambiguous: true } }
  const stream = client.experimental.tasks.callToolStream(params, CallToolResultSchema, {
    task: { ttl: 60_000 },
  })
  for await (const message of stream) {
    if (message.type === 'result') return textOf(message.result)
    if (message.type === 'error') throw message.error
  }
  throw new Error('The task ended without a result.')
}

function taskingClient(): Client {
  const client = new Client(
    { name: 'everything-client', version: '1.0.0' },
    {
      capabilities: {
        sampling: {},
        elicitation: {},
        roots: { listChanged: true },
        tasks: { requests: { sampling: { createMessage: {} }, elicitation: { create: {} } } },
      },
      taskStore: new InMemoryTaskStore(),
    },
  )
  const sample = {
    model: 'test',
    role: 'assistant' as const,
    content: { type: 'text' as const, text: 'a sampled text' },
  }
  client.setRequestHandler(CreateMessageRequestSchema, async ({ params }, { taskStore }) => {
    if (!params.task || !taskStore) return sample
    return { task: await finished(taskStore, sample) }
  })
  client.setRequestHandler(ElicitRequestSchema, async ({ params }, { taskStore }) => {
    const asksForMore = JSON.stringify(params).includes('interpretation')
    const content: Record<string, string> = asksForMore ? { interpretation: 'technical' } : { name: 'Ada' }
    const result = { action: 'accept' as const, content }
    if (!('task' in params) || !params.task || !taskStore) return result
    return { task: await finished(taskStore, result) }
  })
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: rootUri, name: 'home' }] }))
  return client
}

interface TaskResults<Task> {
  createTask(options: { ttl: number }): Promise<Task>
  storeTaskResult(id: string, status: 'completed', result: Result): Promise<void>
}

async function finished<Task extends { taskId: string }>(
  tasks: TaskResults<Task>,
  result: Result,
): Promise<Task> {
  const task = await tasks.createTask({ ttl: 60_000 })
  await tasks.storeTaskResult(task.taskId, 'completed', result)
  return task
}
