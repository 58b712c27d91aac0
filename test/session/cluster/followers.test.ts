import { expect, test } from 'vitest'
import type { FollowItem } from '../../../src/session/cluster/follow.ts'
import { Followers } from '../../../src/session/cluster/followers.ts'
import { STANDALONE } from '../../../src/session/streams/stream.ts'

const update = (streamId: string) => ({ streamId, before: 0, events: [], epoch: 'e' })

test('what was asked of a node under an id that it gave up does not take the place of what is asked now', () => {
  const sent: FollowItem[] = []
  const followers = new Followers({ send: (_, item) => sent.push(item) })
  const late = followers.remote('other', 1)
  followers.reset()
  const now = followers.remote('other', 1).subscribe('b', () => {})
  let over = false
  const subscriber = late.subscribe(STANDALONE, () => {
    over = true
  })
  expect([over, subscriber.over, now.over]).toEqual([true, { over: 'close' }, undefined])
  subscriber.push(update(STANDALONE))
  now.push(update('b'))
  expect(sent).toEqual([{ type: 'news', count: 1, to: 1, news: { update: update('b') } }])
})
