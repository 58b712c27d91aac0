import assert from 'node:assert/strict'
import { QUEUE_LIMIT } from '../store/sdk/task-message-queue.ts'
import type { Store } from '../store/store.ts'
import type { Suite } from './suite.ts'
import { eventually, MINUTE, range, rejectsWith, startNode, turn } from './support.ts'

const row = (id: string, sessionId: string | null = 's', ttl = MINUTE) => ({ id, sessionId, value: 'a', ttl })
const create = (
  store: Store,
  sessionId?: string,
  params: { ttl?: number | null; pollInterval?: number } = {},
) => store.taskStore().createTask(params, 1, { method: 'tools/call' }, sessionId)
const request = (id: number) => ({ type: 'request', timestamp: 0, message: { id } })
const notification = (text: string) => ({ type: 'notification', timestamp: 0, message: { params: text } })

export function tasks(suite: Suite): void {
  table(suite)
  queueRows(suite)
  taskStore(suite)
  queue(suite)
}

function table({ test, all, ms }: Suite): void {
  test('tasks: a row is kept to the letter, with its session or without one', async (store) => {
    const value = '{"note":"žluťoučký 🐎 \\"quoted\\" \\u0000 \\u001e"}'
    await store.tasks.create({ id: 't1', sessionId: 's {1}', value, ttl: MINUTE })
    await store.tasks.create({ id: 't2', sessionId: null, value: '', ttl: MINUTE })
    assert.deepEqual(await store.tasks.get('t1'), { id: 't1', sessionId: 's {1}', version: 1, value })
    assert.deepEqual(await store.tasks.get('t2'), { id: 't2', sessionId: null, version: 1, value: '' })
    assert.equal(await store.tasks.get('t3'), undefined)
    await rejectsWith('INVALID_ARGUMENT', store.tasks.create(row('t1')))
    assert.equal((await store.tasks.get('t1'))?.value, value)
  })

  all('tasks: compare and set: of many that saw the same version one writes', async (stores) => {
    await stores[0]!.tasks.create(row('t'))
    for (const version of range(5).map((i) => i + 1)) {
      const writes = range(10).map((i) => {
        const store = stores[i % stores.length]!
        return store.tasks.replace('t', { version, value: `${version}/${i}` })
      })
      const won = (await Promise.all(writes)).flatMap((done, i) => (done ? [i] : []))
      assert.equal(won.length, 1)
      const found = await stores.at(-1)!.tasks.get('t')
      assert.deepEqual([found?.version, found?.value], [version + 1, `${version}/${won[0]}`])
    }
    assert.equal(await stores[0]!.tasks.replace('nobody', { version: 1, value: 'x' }), false)
  })

  test('tasks: an expired one is absent; a change keeps its life, or begins it anew', async (store) => {
    for (const id of ['left', 'changed', 'renewed']) await store.tasks.create(row(id, 's', ms(400)))
    await store.tasks.create(row('long'))
    assert.ok(await store.tasks.replace('changed', { version: 1, value: 'b' }))
    assert.ok(await store.tasks.replace('renewed', { version: 1, value: 'b', ttl: MINUTE }))
    await eventually('the first is gone', async () => !(await store.tasks.get('left')))
    await eventually('the second is gone', async () => !(await store.tasks.get('changed')))
    assert.equal(await store.tasks.replace('changed', { version: 2, value: 'c' }), false)
    const { tasks, next } = await store.tasks.list({ sessionId: 's', limit: 10 })
    assert.deepEqual([tasks.map(({ id }) => id), next], [['long', 'renewed'], undefined])
    while ((await store.sweep({ limit: 1 })).more);
    assert.ok(await store.tasks.get('renewed'))
    // An id is free again when its row is gone.
    for (const id of ['left', 'changed']) await store.tasks.create(row(id))
  })

  all('tasks: pages of one session, in id order', async (stores) => {
    const ids = range(25).map((i) => `t${String(i).padStart(2, '0')}`)
    await Promise.all(ids.map((id, i) => stores[i % stores.length]!.tasks.create(row(id, 's'))))
    for (const id of ['t00x', 't99']) await stores[0]!.tasks.create(row(id, 'other'))
    await stores[0]!.tasks.create(row('none', null))
    const found: string[] = []
    for (let cursor: string | undefined, pages = 0; ; pages++) {
      const query = { sessionId: 's', limit: 10, ...(cursor !== undefined && { cursor }) }
      const page = await stores.at(-1)!.tasks.list(query)
      found.push(...page.tasks.map(({ id }) => id))
      assert.ok(pages < 3)
      if (page.next === undefined) break
      cursor = page.next
    }
    assert.deepEqual(found, ids)
    const without = await stores.at(-1)!.tasks.list({ sessionId: null, limit: 10 })
    assert.deepEqual(without.tasks, [{ id: 'none', sessionId: null, version: 1, value: 'a' }])
    assert.deepEqual(await stores[0]!.tasks.list({ sessionId: 'unknown', limit: 10 }), { tasks: [] })
  })
}

function queueRows({ test, all, ms }: Suite): void {
  const push = (store: Store, text: string, limit = 1000, id = 't') => store.tasks.push(id, { text, limit })
  const shift = (store: Store, limit: number, id = 't') => store.tasks.shift(id, { limit })

  all('task queue rows: first in, first out, each taken once, up to a limit', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    await here.tasks.create(row('t'))
    assert.deepEqual(await shift(there, 5), [])
    const texts = ['', 'žluť 🐎 "\u0000 \u001e\n', ...range(10).map((i) => `${i}`), 'x'.repeat(2 ** 20)]
    for (const text of texts) assert.equal(await push(here, text), 'queued')
    assert.equal(await push(there, 'too many', texts.length), 'full')
    assert.deepEqual(await shift(there, 1), texts.slice(0, 1))
    assert.equal(await push(there, 'last', texts.length), 'queued')
    assert.deepEqual(await shift(here, 4), texts.slice(1, 5))
    assert.deepEqual(await shift(there, 100), [...texts.slice(5), 'last'])
    assert.deepEqual(await shift(here, 100), [])
    assert.equal(await push(here, 'again'), 'queued')
    assert.deepEqual(await shift(there, 100), ['again'])
    assert.equal(await push(here, 'x', 0), 'full')
  })

  test('task queue rows: the task guards its own, and a message changes neither version nor value', async (store) => {
    await store.tasks.create(row('t'))
    await store.tasks.create(row('free', null))
    const [text, limit] = ['x', 10]
    assert.equal(await store.tasks.push('nobody', { text, limit }), 'absent')
    assert.equal(await store.tasks.push('t', { text, limit, sessionId: 'other' }), 'absent')
    assert.equal(await store.tasks.push('t', { text, limit, sessionId: 's' }), 'queued')
    assert.equal(await store.tasks.push('free', { text, limit, sessionId: 'other' }), 'queued')
    assert.deepEqual(await store.tasks.shift('t', { limit, sessionId: 'other' }), [])
    assert.deepEqual(await store.tasks.get('t'), { id: 't', sessionId: 's', version: 1, value: 'a' })
    assert.ok(await store.tasks.replace('t', { version: 1, value: 'b' }))
    assert.deepEqual(await store.tasks.shift('t', { limit, sessionId: 's' }), ['x'])
    assert.deepEqual(await store.tasks.shift('free', { limit, sessionId: 'other' }), ['x'])
    assert.equal((await store.tasks.get('t'))?.version, 2)
  })

  test('task queue rows: they die with their task', async (store) => {
    await store.tasks.create(row('t', 's', ms(300)))
    assert.equal(await push(store, 'old'), 'queued')
    await eventually('it is gone', async () => !(await store.tasks.get('t')))
    assert.equal(await push(store, 'late'), 'absent')
    assert.deepEqual(await shift(store, 10), [])
    while ((await store.sweep({ limit: 100 })).more);
    await store.tasks.create(row('t'))
    assert.deepEqual(await shift(store, 10), [], 'a new task under the same id')
  })

  test('task queue rows: they live as long as their task, also when its life begins anew', async (store) => {
    await store.tasks.create(row('t', 's', ms(300)))
    assert.equal(await push(store, 'kept'), 'queued')
    assert.ok(await store.tasks.replace('t', { version: 1, value: 'b', ttl: MINUTE }))
    await store.tasks.create(row('sand', 's', ms(400)))
    await eventually('its first life is over', async () => !(await store.tasks.get('sand')))
    while ((await store.sweep({ limit: 100 })).more);
    assert.deepEqual(await shift(store, 10), ['kept'])
  })
}

function taskStore({ test, all, pair, ms }: Suite): void {
  all('task store: what one made, another finishes, and all read', async (stores) => {
    const [here, there] = [stores[0]!.taskStore(), stores.at(-1)!.taskStore()]
    const made = await create(stores[0]!, 's', { ttl: 30_000, pollInterval: 250 })
    assert.deepEqual([made.status, made.ttl, made.pollInterval], ['working', 30_000, 250])
    assert.equal(made.createdAt, made.lastUpdatedAt)
    assert.deepEqual(await there.getTask(made.taskId, 's'), made)
    await there.updateTaskStatus(made.taskId, 'input_required', 'asks', 's')
    const asking = await here.getTask(made.taskId, 's')
    assert.deepEqual([asking?.status, asking?.statusMessage], ['input_required', 'asks'])
    await rejectsWith('INVALID_ARGUMENT', here.getTaskResult(made.taskId, 's'))
    const result = { content: [{ type: 'text', text: 'done ✓' }] }
    await there.storeTaskResult(made.taskId, 'completed', result, 's')
    assert.equal((await here.getTask(made.taskId, 's'))?.status, 'completed')
    assert.deepEqual(await here.getTaskResult(made.taskId, 's'), result)
    assert.deepEqual(await here.getTaskResult(made.taskId), result, 'who names no session is not restricted')
  })

  all('task store: of all that end a task at once one does, and nothing changes it after', async (stores) => {
    for (const _ of range(5)) {
      const { taskId } = await create(stores[0]!, 's')
      const attempts = range(8).map((i) => {
        const tasks = stores[i % stores.length]!.taskStore()
        if (i % 2) return tasks.updateTaskStatus(taskId, 'cancelled', `by ${i}`, 's')
        return tasks.storeTaskResult(taskId, 'completed', { by: i }, 's')
      })
      const outcomes = await Promise.allSettled(attempts)
      const won = outcomes.flatMap(({ status }, i) => (status === 'fulfilled' ? [i] : []))
      assert.equal(won.length, 1)
      const tasks = stores.at(-1)!.taskStore()
      const ended = await tasks.getTask(taskId, 's')
      assert.equal(ended?.status, won[0]! % 2 ? 'cancelled' : 'completed')
      await rejectsWith('INVALID_ARGUMENT', tasks.updateTaskStatus(taskId, 'working', undefined, 's'))
      await rejectsWith('INVALID_ARGUMENT', tasks.storeTaskResult(taskId, 'failed', {}, 's'))
      assert.deepEqual(await tasks.getTask(taskId, 's'), ended)
    }
  })

  test('task store: a task is its session’s alone', async (store) => {
    const tasks = store.taskStore()
    const { taskId } = await create(store, 'mine')
    const free = await create(store)
    assert.equal(await tasks.getTask(taskId, 'yours'), null)
    assert.deepEqual(await tasks.listTasks(undefined, 'yours'), { tasks: [] })
    await rejectsWith('INVALID_ARGUMENT', tasks.getTaskResult(taskId, 'yours'))
    await rejectsWith('INVALID_ARGUMENT', tasks.storeTaskResult(taskId, 'completed', {}, 'yours'))
    await rejectsWith('INVALID_ARGUMENT', tasks.updateTaskStatus(taskId, 'cancelled', undefined, 'yours'))
    const queue = store.taskMessageQueue()
    await rejectsWith('INVALID_ARGUMENT', queue.enqueue(taskId, notification('x'), 'yours'))
    await queue.enqueue(taskId, notification('x'), 'mine')
    assert.equal(await queue.dequeue(taskId, 'yours'), undefined)
    assert.ok(await tasks.getTask(free.taskId, 'yours'), 'what was made without a session is anybody’s')
    assert.equal((await tasks.getTask(taskId, 'mine'))?.status, 'working')
  })

  test('task store: listTasks goes on where its cursor says, about in the order of creation', async (store) => {
    const made: string[] = []
    for (const _ of range(60)) {
      made.push((await create(store, 's')).taskId)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    const tasks = store.taskStore()
    const first = await tasks.listTasks(undefined, 's')
    assert.ok(first.nextCursor)
    const second = await tasks.listTasks(first.nextCursor, 's')
    assert.equal(second.nextCursor, undefined)
    const listed = [...first.tasks, ...second.tasks].map(({ taskId }) => taskId)
    assert.deepEqual(listed, [...made].sort())
    await rejectsWith('INVALID_ARGUMENT', tasks.listTasks('nonsense', 's'))
  })

  test('task store: no life is longer than the store’s; it begins anew with the end of the task', async (store) => {
    const short = store.taskStore({ ttl: ms(600) / 1000 })
    const make = (ttl: number | null | undefined) =>
      short.createTask(ttl === undefined ? {} : { ttl }, 1, { method: 'tools/call' }, 's')
    for (const asked of [undefined, null, 0, MINUTE]) assert.equal((await make(asked)).ttl, ms(600))
    assert.equal((await make(5)).ttl, 5)
    assert.equal((await create(store)).ttl, 3_600_000)
    const [left, ended] = [await make(null), await make(null)]
    await new Promise((resolve) => setTimeout(resolve, ms(400)))
    await short.storeTaskResult(ended.taskId, 'completed', {}, 's')
    await eventually('the one is gone', async () => !(await short.getTask(left.taskId, 's')))
    assert.ok(await short.getTask(ended.taskId, 's'))
    await eventually('and the other', async () => !(await short.getTask(ended.taskId, 's')))
    await rejectsWith('INVALID_ARGUMENT', short.getTaskResult(ended.taskId, 's'))
  })

  pair('task store: a task whose node is gone fails as interrupted, and no other does', async (one, two) => {
    const [here, there] = [one.taskStore(), two.taskStore()]
    const nobodys = await create(one, 's')
    await startNode(one, 'node-1')
    const [lost, done, elsewhere] = [
      await create(one, 's'),
      await create(one, 's'),
      await one.taskStore({ watch: false }).createTask({}, 1, { method: 'tools/call' }, 's'),
    ]
    await here.storeTaskResult(done.taskId, 'completed', { ok: true }, 's')
    assert.equal((await there.getTask(lost.taskId, 's'))?.status, 'working')
    await one.nodes.unregister('node-1')
    assert.equal((await here.getTask(lost.taskId, 's'))?.status, 'working', 'its own process knows better')
    const { tasks: listed } = await there.listTasks(undefined, 's')
    const statuses = Object.fromEntries(listed.map(({ taskId, status }) => [taskId, status]))
    assert.deepEqual(statuses, {
      [nobodys.taskId]: 'working',
      [lost.taskId]: 'failed',
      [done.taskId]: 'completed',
      [elsewhere.taskId]: 'working',
    })
    assert.match((await there.getTask(lost.taskId, 's'))?.statusMessage ?? '', /may or may not/)
    const error = await there.getTaskResult(lost.taskId, 's').catch((reason) => reason)
    assert.deepEqual([error.code, error.data], [-32603, { reason: 'interrupted' }])
    await rejectsWith('INVALID_ARGUMENT', here.storeTaskResult(lost.taskId, 'completed', {}, 's'))
    assert.deepEqual(await there.getTaskResult(done.taskId, 's'), { ok: true })
  })
}

function queue({ test, all, pair }: Suite): void {
  all('task queue: first in, first out, though nobody waits for the one before', async (stores) => {
    const { taskId } = await create(stores[0]!, 's')
    const queue = stores[0]!.taskMessageQueue<ReturnType<typeof request | typeof notification>>()
    const messages = range(20).map((i) => (i % 3 ? notification(`${i}`) : request(i)))
    await Promise.all(messages.map((message) => queue.enqueue(taskId, message, 's')))
    assert.deepEqual(await queue.dequeue(taskId, 's'), messages[0])
    assert.deepEqual(await queue.dequeue(taskId, 's'), messages[1])
    assert.deepEqual(await queue.dequeueAll(taskId, 's'), messages.slice(2))
    assert.equal(await queue.dequeue(taskId, 's'), undefined)
    assert.deepEqual(await queue.dequeueAll(taskId, 's'), [])
    assert.equal(await queue.dequeue('nobody', 's'), undefined)
    await rejectsWith('INVALID_ARGUMENT', queue.enqueue('nobody', request(1), 's'))
  })

  all('task queue: many take at once, and each message is taken once', async (stores) => {
    const { taskId } = await create(stores[0]!, 's')
    const queues = stores.map((store) => store.taskMessageQueue<ReturnType<typeof notification>>())
    const sent = range(24).map((i) => `${i}`)
    const taken: string[] = []
    const taking = queues.map(async (queue) => {
      while (taken.length < sent.length) {
        const message = await queue.dequeue(taskId, 's')
        if (message) taken.push(message.message.params)
        else await turn()
      }
    })
    for (const text of sent) await queues[0]!.enqueue(taskId, notification(text), 's')
    await Promise.all(taking)
    assert.deepEqual(
      taken.sort((a, b) => Number(a) - Number(b)),
      sent,
    )
  })

  all('task queue: no more than its limit, however many put at once', async (stores) => {
    const { taskId } = await create(stores[0]!, 's')
    const queues = range(6).map((i) => stores[i % stores.length]!.taskMessageQueue())
    const puts = range(18).map((i) => queues[i % 6]!.enqueue(taskId, notification(`${i}`), 's', 7))
    const outcomes = await Promise.allSettled(puts)
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 7)
    await rejectsWith('OVERLOADED', queues[0]!.enqueue(taskId, notification('x'), 's', 7))
    assert.equal((await queues[0]!.dequeueAll(taskId, 's')).length, 7)
    assert.ok(QUEUE_LIMIT > 0)
  })

  pair(
    'task queue: a request goes back to who put it there alone; its notifications go to whoever asks',
    async (one, two) => {
      const { taskId } = await create(one, 's')
      const [before, after] = [one.taskMessageQueue(), two.taskMessageQueue()]
      await before.enqueue(taskId, request(0), 's')
      await before.enqueue(taskId, notification('kept'), 's')
      await after.enqueue(taskId, request(0), 's')
      assert.deepEqual(await after.dequeue(taskId, 's'), notification('kept'))
      assert.deepEqual(await after.dequeueAll(taskId, 's'), [request(0)])
      await before.enqueue(taskId, request(1), 's')
      assert.equal(await after.dequeue(taskId, 's'), undefined)
      assert.equal(await before.dequeue(taskId, 's'), undefined, 'what nobody can answer is dropped')
    },
  )

  test('task queue: messages and status do not lose each other', async (store) => {
    const { taskId } = await create(store, 's')
    const queue = store.taskMessageQueue()
    const tasks = store.taskStore()
    const work = range(10).flatMap((i) => [
      queue.enqueue(taskId, notification(`${i}`), 's'),
      tasks.updateTaskStatus(taskId, i % 2 ? 'working' : 'input_required', `${i}`, 's'),
    ])
    await Promise.all(work)
    await tasks.storeTaskResult(taskId, 'completed', { done: true }, 's')
    const messages = range(10).map((i) => notification(`${i}`))
    assert.deepEqual(await queue.dequeueAll(taskId, 's'), messages)
    assert.deepEqual(await tasks.getTaskResult(taskId, 's'), { done: true })
  })
}
