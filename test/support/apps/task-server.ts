import { setTimeout as sleep } from 'node:timers/promises'
import type { CreateTaskRequestHandlerExtra } from '@modelcontextprotocol/sdk/experimental/tasks'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'
import type { Store } from '../../../src/index.ts'
import type { Journal } from '../journal.ts'

const asking = (message: string) => ({
  message,
  requestedSchema: { type: 'object' as const, properties: { name: { type: 'string' as const } } },
})
const text = (content: string): CallToolResult => ({ content: [{ type: 'text', text: content }] })

/** A server of the v1 SDK whose tools are tasks: what an app has to say for them to be shared is `taskStore` and `taskMessageQueue`. */
export function buildTaskServer(store: Store, journal: Journal): McpServer {
  const mcp = new McpServer(
    { name: 'task-server', version: '1.0.0' },
    {
      capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
      taskStore: store.taskStore(),
      taskMessageQueue: store.taskMessageQueue(),
    },
  )

  /** Answers with the task, and runs `work` behind the client's back. */
  async function begin(extra: CreateTaskRequestHandlerExtra, work: (taskId: string) => Promise<string>) {
    const { taskStore, taskRequestedTtl: ttl } = extra
    const task = await taskStore.createTask({ pollInterval: 50, ...(ttl !== undefined && { ttl }) })
    const { taskId } = task
    journal.note({ what: 'begun', taskId, session: extra.sessionId })
    work(taskId)
      .then((done) => taskStore.storeTaskResult(taskId, 'completed', text(done)))
      .then(() => journal.note({ what: 'done', taskId }))
      .catch((error: unknown) => journal.note({ what: 'failed', taskId, error: String(error) }))
    return { task }
  }

  const look = {
    getTask: async (
      _args: unknown,
      { taskId, taskStore }: { taskId: string; taskStore: CreateTaskRequestHandlerExtra['taskStore'] },
    ) => taskStore.getTask(taskId),
    getTaskResult: async (
      _args: unknown,
      { taskId, taskStore }: { taskId: string; taskStore: CreateTaskRequestHandlerExtra['taskStore'] },
    ) => (await taskStore.getTaskResult(taskId)) as CallToolResult,
  }

  mcp.experimental.tasks.registerToolTask(
    'work',
    { description: 'Takes its time', inputSchema: { tag: z.string(), ms: z.number() } },
    {
      createTask: ({ tag, ms }, extra) =>
        begin(extra, async () => {
          await sleep(ms)
          return `${tag} worked ${ms} ms`
        }),
      ...look,
    },
  )
  mcp.experimental.tasks.registerToolTask(
    'ask',
    { description: 'Asks for names', inputSchema: { questions: z.array(z.string()) } },
    {
      createTask: ({ questions }, extra) =>
        begin(extra, async (taskId) => {
          const answers = await Promise.all(
            questions.map(async (message) => {
              await extra.taskStore.updateTaskStatus(taskId, 'input_required')
              const { content } = await mcp.server.elicitInput(asking(message), { relatedTask: { taskId } })
              return `${message} ${content?.['name']}`
            }),
          )
          return answers.join('; ')
        }),
      ...look,
    },
  )
  mcp.registerTool('ask_now', { inputSchema: { message: z.string() } }, async ({ message }, extra) => {
    const { content } = await mcp.server.elicitInput(asking(message), { relatedRequestId: extra.requestId })
    return text(`${message} ${content?.['name']}`)
  })
  return mcp
}
