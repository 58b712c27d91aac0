import { expect, test } from 'vitest'
import { PersistError } from '../src/errors.ts'
import { Group, type Outcome } from '../src/store/shared/group-commit.ts'

test('a group whose store was away rejects what waits behind, so that nothing overtakes what was said first', async () => {
  const stored: string[] = []
  let answer: ((outcome: Outcome<string>) => void) | undefined
  const group = new Group<string, string>(async (items) => {
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
