import { expect, onTestFinished, test } from 'vitest'
import { MemoryEventStore } from '../../src/index.ts'
import { FORMATS } from '../../src/versions.ts'

test('a task in a format that this release does not read is neither shown, nor changed, nor ended', async () => {
  const store = new MemoryEventStore()
  onTestFinished(() => store.close())
  const tasks = store.taskStore()
  const request = { method: 'tools/call', params: {} }
  const ours = await tasks.createTask({}, 1, request as never, 's')
  const later = { format: FORMATS.reads[1] + 1, node: 'gone', whatever: 'it holds' }
  const value = JSON.stringify(later)
  await store.tasks.create({ id: 'f'.repeat(44), sessionId: 's', value, ttl: 60_000 })

  const refused = {
    code: 'SCHEMA_TOO_NEW',
    message: expect.stringContaining('does not read; upgrade mcp-persist'),
  }
  await expect(tasks.getTask('f'.repeat(44), 's')).rejects.toMatchObject(refused)
  await expect(tasks.storeTaskResult('f'.repeat(44), 'completed', {}, 's')).rejects.toMatchObject(refused)
  await expect(tasks.updateTaskStatus('f'.repeat(44), 'cancelled', '', 's')).rejects.toMatchObject(refused)
  const listed = await tasks.listTasks(undefined, 's')
  expect(listed.tasks.map(({ taskId }) => taskId)).toEqual([ours.taskId])
  expect((await store.tasks.get('f'.repeat(44)))?.value).toBe(value)
  // What this release writes says in which format.
  expect(JSON.parse((await store.tasks.get(ours.taskId))!.value)).toMatchObject({ format: FORMATS.writes })
})
