import assert from 'node:assert/strict'
import type { Suite } from './suite.ts'
import { eventually } from './support.ts'

export function bus({ all }: Suite): void {
  all('bus: published texts reach those who listen to that channel, and nobody else', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    const heard = new Map<string, Set<string>>()
    const channels = ['a', 'a:b', 'A', '*', '%', '\'quoted\' "twice"', 'ž🐎', `long ${'x'.repeat(150)}`]
    const subscriptions = []
    for (const channel of channels) {
      const set = new Set<string>()
      heard.set(channel, set)
      subscriptions.push(await here.bus.subscribe(channel, (text) => text !== undefined && set.add(text)))
    }
    const text = (channel: string) => JSON.stringify({ channel, more: 'ž🐎\n' })
    await eventually('each text is heard', async () => {
      for (const channel of channels) await there.bus.publish(channel, text(channel))
      return channels.every((channel) => heard.get(channel)!.size > 0)
    })
    for (const channel of channels) assert.deepEqual([...heard.get(channel)!], [text(channel)])
    for (const subscription of subscriptions) await subscription.close()
  })

  all('bus: two listeners of one channel both hear; a closed subscription does not', async (stores) => {
    const [here, there] = [stores[0]!, stores.at(-1)!]
    const heard: string[][] = [[], [], []]
    const listen = (i: number) =>
      here.bus.subscribe('c', (text) => text !== undefined && heard[i]!.push(text))
    const first = await listen(0)
    await listen(1)
    await eventually('both hear', async () => {
      await there.bus.publish('c', 'one')
      return heard[0]!.includes('one') && heard[1]!.includes('one')
    })
    await first.close()
    await first.close()
    heard[0]!.length = 0
    await eventually('the second hears', async () => {
      await there.bus.publish('c', 'two')
      return heard[1]!.includes('two')
    })
    assert.ok(!heard[0]!.includes('two'))
    await listen(2)
    await eventually('a new one hears', async () => {
      await there.bus.publish('c', 'three')
      return heard[2]!.includes('three')
    })
  })
}
