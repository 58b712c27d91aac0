import { describe, expect, it, onTestFinished } from 'vitest'
import { backends } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { until } from '../support/wait.ts'
import { connect, crash, noted, serve } from './restart-support.ts'

describe.each(backends)('a process on %s that is killed', (backend) => {
  it('while a user is being asked: the call ends with an error, the late answer harms nobody', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const client = await RawClient.open(hosted.url)
    onTestFinished(() => client.close())
    const asked = await client.stream(client.toolCall('elicit', { message: 'name?' }))
    const question = await asked.next('the question', ({ method }) => method === 'elicitation/create')

    await crash(hosted)

    const resumed = await client.listen(asked.lastEventId)
    const answer = await resumed.next('the end of the call', ({ error }) => error !== undefined)
    expect(answer.error?.message).toMatch(/may or may not/i)
    const late = await client.answer(question, { action: 'accept', content: { name: 'too late' } })
    await late.text()
    expect(late.status).toBe(202)
    const again = await client.stream(client.toolCall('elicit', { message: 'again?' }))
    const second = await again.next('another question', ({ method }) => method === 'elicitation/create')
    expect(second.id).not.toBe(question.id)
    await client.answer(second, { action: 'accept', content: { name: 'in time' } })
    const result = await again.next('the answer', (message) => message.result !== undefined)
    expect(JSON.stringify(result)).toContain('in time')
  })

  it.each([1, 3])(
    'at any moment (%i): no event id is given twice, and what was stored arrives',
    async (seed) => {
      const hosted = await serve({ shape: 'factory', backend })
      const client = await RawClient.open(hosted.url)
      onTestFinished(() => client.close())
      const call = client.toolCall('slow_read_only', { tag: 'any', steps: 40, ms: 25 })
      const stream = await client.stream(call)
      const standalone = await client.listen()
      await client.tool('later', { tag: 'aside', count: 40, ms: 5 })
      await stream.count(1 + seed * 7)

      await crash(hosted)

      await Promise.all([stream.over(), standalone.over()])
      const rest = await client.rest(stream, call.id)
      const aside = await client.listen(standalone.lastEventId)
      await client.tool('burst', { tag: 'after', count: 3, via: 'standalone' })
      await until('what came after', () => aside.logs.includes('after:3'))
      const streams = [stream, ...rest, standalone, aside]
      const ids = streams.flatMap(({ events }) =>
        events.filter(({ data }) => data !== '').map(({ id }) => id),
      )
      expect(new Set(ids).size).toBe(ids.length)
      // The second run sends all of it; of the first one all that was seen, and all before it.
      const lines = [stream, ...rest].flatMap(({ logs }) => logs)
      const second = lines.lastIndexOf('any:1')
      const numbers = (part: string[]) => part.map((line) => Number(line.split(':')[1]))
      const counting = (length: number) => Array.from({ length }, (_, index) => index + 1)
      expect(numbers(lines.slice(0, second))).toEqual(counting(second))
      expect(numbers(lines.slice(second))).toEqual(counting(40))
      const before = [...standalone.logs, ...aside.logs].filter((line) => line.startsWith('aside'))
      expect(numbers(before)).toEqual(counting(before.length))
    },
  )

  it('after DELETE: the session stays deleted', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const client = await RawClient.open(hosted.url)
    await (await client.delete()).text()
    await crash(hosted)
    const response = await client.post(client.request('tools/list'))
    await response.text()
    expect(response.status).toBe(404)
  })

  it('with two sessions on it: neither receives what belongs to the other', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const [one, two] = [await connect('express5', hosted), await connect('express5', hosted)]
    await one.tool('burst', { tag: 'one', count: 2, via: 'standalone' })
    await two.tool('burst', { tag: 'two', count: 2, via: 'standalone' })
    await Promise.all([one.log('one:2'), two.log('two:2')])
    await crash(hosted)
    await one.tool('burst', { tag: 'one-more', count: 2, via: 'standalone' })
    await two.tool('burst', { tag: 'two-more', count: 2, via: 'standalone' })
    await Promise.all([one.log('one-more:2'), two.log('two-more:2')])
    expect(one.logs).toEqual(['one:1', 'one:2', 'one-more:1', 'one-more:2'])
    expect(two.logs).toEqual(['two:1', 'two:2', 'two-more:1', 'two-more:2'])
  })
})

describe.each(backends)('a process on %s that is asked to end', (backend) => {
  it('lets running calls finish, ends with 0, and its clients go on with the next one', async () => {
    const hosted = await serve({ shape: 'express5', backend })
    const client = await connect('express5', hosted)
    const call = client.tool('slow', { tag: 'drained', steps: 10, ms: 30 })
    await until('the call to run', () => noted(hosted.journal, 'sent', 'drained') > 1)
    expect(await hosted.host.stop()).toBe(0)
    await hosted.host.start()
    expect(await call).toBe('drained done after 10')
    expect(noted(hosted.journal, 'start', 'drained')).toBe(1)
    expect(await client.tool('echo', { text: 'next' })).toBe('next')
    expect(client.exchanges.filter(({ status }) => status >= 400)).toEqual([])
  })
})
