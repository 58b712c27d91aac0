import { isTerminal } from '@modelcontextprotocol/sdk/experimental/tasks'
import { CallToolResultSchema, CreateTaskResultSchema, type Task } from '@modelcontextprotocol/sdk/types.js'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type Backend, type StoreSpace, storeSpace } from '../support/backends.ts'
import { type ClientOptions, OfficialClient } from '../support/clients/official-client.ts'
import { textOf } from '../support/clients/raw-client.ts'
import { type HostedCluster, hostCluster } from '../support/cluster.ts'
import { until, within } from '../support/wait.ts'

const backends: readonly Backend[] = ['sqlite', 'redis', 'redis-cluster', 'postgres']
const LEASE = 2

describe.each(backends)('tasks of the v1 SDK, three processes on %s', (backend) => {
  let space: StoreSpace
  let cluster: HostedCluster
  beforeAll(async () => {
    space = await storeSpace(backend)
    const options = { retryInterval: 20, ttl: 120, lease: LEASE }
    cluster = await hostCluster({ script: 'tasks.ts', store: space.url, options })
  })
  afterAll(async () => {
    await cluster?.close()
    await space.remove()
  })

  /** Each of its requests goes to the next node. */
  async function open(options: ClientOptions = {}) {
    const client = await OfficialClient.connect('v1', cluster.url, options)
    onTestFinished(() => client.close())
    const { tasks } = client.client.experimental
    const begin = async (name: string, args: Record<string, unknown>, task = {}): Promise<Task> => {
      const request = { method: 'tools/call' as const, params: { name, arguments: args } }
      return (await client.client.request(request, CreateTaskResultSchema, { task })).task
    }
    const ended = (taskId: string) =>
      until('the end of the task', async () => {
        const task = await tasks.getTask(taskId)
        return isTerminal(task.status) && task
      })
    const result = (taskId: string, onresumptiontoken: (id: string) => void = () => {}) =>
      within('tasks/result', tasks.getTaskResult(taskId, CallToolResultSchema, { onresumptiontoken }), 20_000)
    return { client, tasks, begin, ended, result }
  }

  /** The process that runs the task. */
  function runner(taskId: string) {
    const entry = cluster.journal.entries().find((each) => each.what === 'begun' && each.taskId === taskId)
    const node = cluster.nodes.find(({ host }) => host.pid === entry?.pid)
    if (!node) throw new Error(`Nobody runs ${taskId}.`)
    return node.host
  }

  it('a task is created at one node, and found, listed and fetched through the others', async () => {
    const { client, tasks, begin, ended, result } = await open()
    const task = await begin('work', { tag: 'first', ms: 2000 }, { ttl: 60_000 })
    expect(task).toMatchObject({ status: 'working', ttl: 60_000, pollInterval: 50 })
    // One after the other, they reach all three nodes.
    for (let round = 0; round < 3; round++) expect(await tasks.getTask(task.taskId)).toMatchObject(task)
    const waiting = result(task.taskId)
    const capped = await begin('work', { tag: 'second', ms: 1 }, { ttl: 10 ** 9 })
    expect(capped.ttl).toBe(3_600_000)
    expect(textOf(await waiting)).toBe('first worked 2000 ms')
    expect((await ended(capped.taskId)).status).toBe('completed')
    for (let round = 0; round < 3; round++) {
      expect(textOf(await result(capped.taskId))).toBe('second worked 1 ms')
      const { tasks: listed } = await tasks.listTasks()
      expect(listed.map(({ taskId, status }) => [taskId, status])).toEqual([
        [task.taskId, 'completed'],
        [capped.taskId, 'completed'],
      ])
    }
    await until('the word of its end', () =>
      client
        .notifications('notifications/tasks/status')
        .some(({ params }) => params?.taskId === task.taskId && params?.status === 'completed'),
    )
    expect(new Set(cluster.proxy.counts.keys()).size).toBe(3)
  })

  it('a cancelled task stays cancelled, whatever its tool says later', async () => {
    const { tasks, begin, result } = await open()
    const { taskId } = await begin('work', { tag: 'late', ms: 300 })
    expect((await tasks.cancelTask(taskId)).status).toBe('cancelled')
    await expect(tasks.cancelTask(taskId)).rejects.toThrow(/cancelled/)
    await until('the tool is done', () =>
      cluster.journal.entries().some((entry) => entry.what === 'failed' && entry.taskId === taskId),
    )
    for (let round = 0; round < 3; round++) expect((await tasks.getTask(taskId)).status).toBe('cancelled')
    await expect(result(taskId)).rejects.toThrow(/cancelled/)
  })

  it('another session does not find it (CVE-2026-52870)', async () => {
    const [mine, theirs] = [await open(), await open()]
    const { taskId } = await mine.begin('work', { tag: 'private', ms: 1 })
    await mine.ended(taskId)
    await expect(theirs.tasks.getTask(taskId)).rejects.toThrow(/not found/)
    await expect(theirs.result(taskId)).rejects.toThrow(/not found/)
    await expect(theirs.tasks.cancelTask(taskId)).rejects.toThrow(/not found/)
    expect((await theirs.tasks.listTasks()).tasks).toEqual([])
  })

  it('questions of a task reach the client by tasks/result, and each answer finds its question', async () => {
    const { client, begin, ended, result } = await open({
      onElicit: async (message) => ({ name: `answer to ${message}` }),
    })
    const questions = Array.from({ length: 5 }, (_, index) => `q${index}`)
    const { taskId } = await begin('ask', { questions })
    // Questions beside the task number their requests in the same instance.
    const [answer, beside] = await Promise.all([result(taskId), client.tool('ask_now', { message: 'now' })])
    expect(textOf(answer)).toBe(questions.map((question) => `${question} answer to ${question}`).join('; '))
    expect(beside).toBe('now answer to now')
    expect((await ended(taskId)).status).toBe('completed')
  })

  it('the SDK’s own loop runs a task with questions from beginning to end', async () => {
    const { client } = await open({ onElicit: async () => ({ name: 'Ada' }) })
    await client.client.listTools()
    const messages: string[] = []
    const call = { name: 'ask', arguments: { questions: ['who?'] } }
    for await (const message of client.client.experimental.tasks.callToolStream(call)) {
      messages.push(message.type === 'result' ? textOf(message.result as never) : message.type)
    }
    expect(messages[0]).toBe('taskCreated')
    expect(messages.at(-1)).toBe('who? Ada')
  })

  it('the node that runs it is killed: who waits gets an error, and so does everybody who asks', async () => {
    const { tasks, begin, ended, result } = await open()
    const done = await begin('work', { tag: 'done', ms: 1 })
    await ended(done.taskId)
    const { taskId } = await begin('work', { tag: 'lost', ms: 60_000 })
    // Before it has an event id, a call cannot be resumed.
    let eventId: string | undefined
    const hear = (id: string) => {
      eventId = id
    }
    const waiting = result(taskId, hear).catch((error: unknown) => error)
    await until('an event id', () => eventId)
    const host = runner(taskId)
    await host.kill('SIGKILL')
    onTestFinished(() => host.start())
    const lost = await ended(taskId)
    expect(lost.status).toBe('failed')
    expect(lost.statusMessage).toMatch(/interrupted.*may or may not/)
    expect(await waiting).toMatchObject({ code: -32603, data: { reason: 'interrupted' } })
    expect(textOf(await result(done.taskId))).toBe('done worked 1 ms')
    expect((await tasks.listTasks()).tasks.map(({ status }) => status)).toEqual(['completed', 'failed'])
    await expect(tasks.cancelTask(taskId)).rejects.toThrow(/failed/)
  })

  it('a node is killed with questions of a task unsent: the next instance neither asks them nor takes their answers', async () => {
    const asked: string[] = []
    const { client, begin, ended, result } = await open({
      onElicit: async (message) => {
        asked.push(message)
        return { name: `answer to ${message}` }
      },
    })
    const { taskId } = await begin('ask', { questions: ['unsent'] })
    await until(
      'the question waits',
      async () => (await client.client.experimental.tasks.getTask(taskId)).status === 'input_required',
    )
    const host = runner(taskId)
    await host.kill('SIGKILL')
    onTestFinished(() => host.start())
    expect((await ended(taskId)).status).toBe('failed')
    const [outcome, beside] = await Promise.all([
      result(taskId).catch((error: unknown) => error),
      client.tool('ask_now', { message: 'now' }),
    ])
    expect(outcome).toMatchObject({ code: -32603 })
    expect(beside).toBe('now answer to now')
    expect(asked).toEqual(['now'])
  })
})
