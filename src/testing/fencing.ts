import assert from 'node:assert/strict'
import type { Suite } from './suite.ts'
import { append, claimed, message, payloads, range, readAll, rejectsWith, session, turn } from './support.ts'

export function fencing({ test, all }: Suite): void {
  test('fencing: an append of an old generation is refused after a claim', async (store) => {
    const old = await store.sessions.create(session('s', 'old'))
    await append(store, 's', 'a', message('old'), { generation: old })
    const { generation } = await claimed(store, 's', 'new', old)
    await rejectsWith('FENCED', append(store, 's', 'a', message('late'), { generation: old }))
    await rejectsWith('FENCED', append(store, 's', 'a', message('early'), { generation: generation + 1 }))
    await append(store, 's', 'a', message('new'), { generation })
    assert.deepEqual(await payloads(store, 's'), [message('old'), message('new')])
  })

  test('fencing: a fenced append of several events stores none of them', async (store) => {
    const generation = (await store.sessions.create(session('s', 'node'))) + 1
    const event = { streamId: 'a', kind: 'message', payload: message(1) } as const
    const late = store.log.append({ sessionId: 's', events: [event, event], generation, ttl: 60_000 })
    await rejectsWith('FENCED', late)
    assert.deepEqual(await readAll(store, 's'), [])
  })

  test('fencing: with a generation, a log that does not exist is gone and is not created', async (store) => {
    await rejectsWith('SESSION_GONE', append(store, 's', 'a', message(1), { generation: 1 }))
    assert.equal((await store.log.read({ sessionId: 's', after: 0, limit: 1 })).epoch, undefined)
  })

  test('fencing: positions go on over a change of owner', async (store) => {
    const old = await store.sessions.create(session('s', 'old'))
    const before = await append(store, 's', 'a', message(1), { generation: old })
    const { generation } = await claimed(store, 's', 'new', old)
    assert.ok((await append(store, 's', 'a', message(2), { generation })) > before)
  })

  all(
    'fencing: appends that race a claim are whole before it or refused, and none follows it',
    async (stores) => {
      const [old, young] = [stores[0]!, stores.at(-1)!]
      const first = await old.sessions.create(session('s', 'old'))
      const racing: Promise<{ position: number } | undefined>[] = []
      let claimed = false
      const claim = young.sessions.claim('s', { owner: 'new', generation: first }).then((record) => {
        claimed = true
        return record
      })
      for (let i = 0; i < 2_000 && !(claimed && i > 50); i++) {
        const call = append(old, 's', 'a', message(`old ${i}`), { generation: first })
        racing.push(
          call.then(
            (position) => ({ position }),
            (error) => rejectsWith('FENCED', Promise.reject(error)).then(() => undefined),
          ),
        )
        if (i % 5 === 0) await turn()
      }
      const generation = (await claim)!.generation
      assert.ok(generation > first)
      await rejectsWith('FENCED', append(old, 's', 'a', message('late'), { generation: first }))
      const ours = await Promise.all(
        range(20).map((i) => append(young, 's', 'a', message(`new ${i}`), { generation })),
      )
      const stored = (await Promise.all(racing)).filter((outcome) => outcome !== undefined)
      for (const { position } of stored) assert.ok(position < ours[0]!)
      const found = await readAll(young, 's')
      assert.deepEqual(
        found.map(({ position }) => position),
        [...stored.map(({ position }) => position), ...ours],
      )
    },
  )
}
