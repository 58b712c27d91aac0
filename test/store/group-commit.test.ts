import { expect, test } from 'vitest'
import { PersistError } from '../../src/errors.ts'
import { GroupCommit, type Outcome } from '../../src/store/common/group-commit.ts'

test('a group whose store was away rejects what waits behind, so that nothing overtakes what was said first', async () => {
  const stored: string[] = []
  let answer: ((outcome: Outcome<string>) => void) | undefined
  const group = new GroupCommit<string, string>(async (items) => {
    const first = await new Promise<Outcome<string>>((resolve) => {
      answer = resolve
    })
    if (!('error' in first)) stored.push(...items)
    return items.map((item) => ('error' in first ? first : { ok: item }))
  })
  const turn = () => new Promise((resolve) => setImmediate(resolve))

  const away = new PersistError('STORE_UNAVAILABLE', 'It did not answer.')
  const early = [group.add('1'), group.add('2')]
  await turn()
  const behind = group.add('3')
  answer!({ error: away })
  const outcomes = await Promise.allSettled([...early, behind])
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])

  // What comes afterwards is a new beginning; and other errors are nobody else's business.
  const next = group.add('4')
  await turn()
  const last = group.add('5')
  answer!({ error: new PersistError('FENCED', 'Not yours.') })
  await expect(next).rejects.toThrow('Not yours.')
  await turn()
  answer!({ ok: 'yes' })
  expect(await last).toBe('5')
  expect(stored).toEqual(['5'])
})

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('a group is bounded in bytes: batches by their size, what waits by its sum, and a large item travels alone', async () => {
  const batches: number[][] = []
  let release: (() => void) | undefined
  const group = new GroupCommit<number, number>(
    async (items) => {
      batches.push([...items])
      await new Promise<void>((resolve) => {
        release = resolve
      })
      return items.map((ok) => ({ ok }))
    },
    { sizeOf: (size) => size, maxBatchBytes: 10, maxBytes: 40 },
  )
  // Larger than all bounds, and still let in where nothing waits.
  const huge = group.add(100)
  await turn()
  await expect(group.add(1)).rejects.toMatchObject({ code: 'OVERLOADED' })
  release!()
  expect(await huge).toBe(100)

  const added = [4, 4, 4, 20, 3].map((size) => group.add(size))
  await expect(group.add(6), 'what is under way counts').rejects.toMatchObject({ code: 'OVERLOADED' })
  const fits = group.add(5)
  for (let i = 0; i < 20 && batches.length < 5; i++) {
    await turn()
    release?.()
  }
  const done = Promise.all([...added, fits])
  for (let i = 0; i < 20; i++) {
    await turn()
    release?.()
  }
  expect(await done).toEqual([4, 4, 4, 20, 3, 5])
  expect(batches).toEqual([[100], [4, 4], [4], [20], [3, 5]])
  // All of it has been given back.
  const again = group.add(40)
  await turn()
  release!()
  expect(await again).toBe(40)
})

test.each([
  ['too few outcomes', () => []],
  ['none at all', () => undefined as never],
  [
    'an error',
    () => {
      throw new Error('broken')
    },
  ],
])('a flush that answers with %s leaves nobody waiting, then or later', async (_, answer) => {
  let isBroken = true
  const group = new GroupCommit<string, string>((items) =>
    isBroken ? answer() : items.map((ok) => ({ ok })),
  )
  const outcomes = await Promise.allSettled([group.add('1'), group.add('2')])
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  isBroken = false
  expect(await group.add('3')).toBe('3')
  await group.settled()
})
