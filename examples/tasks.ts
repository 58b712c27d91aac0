// Tasks of the v1 SDK (experimental there): a tool call that answers with a task at once, and is done later. Tasks and their
// results are in the store, so any process answers for them, also when the one that did the work is gone.
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { openStore, withPersistence } from 'mcp-persist'
import { z } from 'zod'

const store = openStore(process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db')

function buildServer(): McpServer {
  const server = new McpServer(
    { name: 'countdown', version: '1.0.0' },
    {
      capabilities: { tasks: { list: {}, cancel: {}, requests: { tools: { call: {} } } } },
      taskStore: store.taskStore(),
      taskMessageQueue: store.taskMessageQueue(),
    },
  )
  server.experimental.tasks.registerToolTask(
    'countdown',
    {
      description: 'Counts down in the background, one number every 200 ms',
      inputSchema: { from: z.number().int().min(1).max(100) },
      execution: { taskSupport: 'optional' },
    },
    {
      async createTask({ from }, { taskStore }) {
        const task = await taskStore.createTask({ pollInterval: 200 })
        setTimeout(() => {
          const result = { content: [{ type: 'text', text: 'lift-off' }] }
          // Rejects when the client has cancelled the task meanwhile.
          taskStore.storeTaskResult(task.taskId, 'completed', result).catch(console.error)
        }, from * 200)
        return { task }
      },
      getTask: (_args, { taskId, taskStore }) => taskStore.getTask(taskId),
      getTaskResult: async (_args, { taskId, taskStore }) => ({
        content: [],
        ...(await taskStore.getTaskResult(taskId)),
      }),
    },
  )
  return server
}

const server = withPersistence(() => buildServer(), store, 3600)
server.listen(Number(process.env.PORT ?? 3000), '127.0.0.1', () => console.log('ready'))

process.once('SIGTERM', async () => {
  await server.close({ deadline: 8000 })
  await store.close()
  process.exit(0)
})
