import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import type { SdkLine } from '../apps/sdk-lines.ts'
import { resourceText, resourceUri } from '../apps/tools.ts'
import { type ClientOptions, OfficialClient, rootUri } from '../clients/official-client.ts'
import type { Journal } from '../journal.ts'
import { balanced, ledger } from '../ledger.ts'
import { until } from '../wait.ts'

export interface Running {
  /** The MCP endpoint. */
  readonly url: string
  readonly journal: Journal
  close(): Promise<void>
}

export interface FeatureOptions {
  /** The client's line. */
  readonly client: SdkLine
  /** Does a tool see the session id that the client has? Default true. */
  readonly sameSessionId?: boolean
  start(): Promise<Running>
}

/**
 * Everything of the protocol that a session can do, through the official client: what has to hold for an app as
 * it is served today has to hold for the same app wrapped, whatever stands between.
 */
export function features(name: string, { client: sdk, start, sameSessionId = true }: FeatureOptions): void {
  describe(name, () => {
    let running: Running
    beforeAll(async () => {
      running = await start()
    })
    afterAll(() => running.close())

    async function connect(options?: ClientOptions): Promise<OfficialClient> {
      const client = await OfficialClient.connect(sdk, running.url, options)
      onTestFinished(() => client.close())
      return client
    }

    it('lists and calls tools', async () => {
      const { client } = await connect()
      const { tools } = await client.listTools()
      expect(tools.map((tool) => tool.name)).toContain('slow_read_only')
      expect(tools.find((tool) => tool.name === 'add')?.annotations).toMatchObject({ readOnlyHint: true })
      const result = await client.callTool({ name: 'add', arguments: { a: 2, b: 3 } })
      expect(result).toMatchObject({ content: [{ type: 'text', text: '5' }] })
    })

    it('reports the errors of tools, and of calls', async () => {
      const { client } = await connect()
      const failed = await client.callTool({ name: 'fail', arguments: { message: 'no luck' } })
      expect(failed).toMatchObject({ isError: true, content: [{ text: 'no luck' }] })
      await expect(client.readResource({ uri: 'test://nothing' })).rejects.toThrow(/not found/i)
    })

    it('serves resources, templates, prompts and completion', async () => {
      const { client } = await connect()
      expect((await client.listResources()).resources).toMatchObject([{ uri: resourceUri }])
      expect((await client.listResourceTemplates()).resourceTemplates).toHaveLength(1)
      expect((await client.readResource({ uri: resourceUri })).contents).toMatchObject([
        { text: resourceText },
      ])
      expect((await client.readResource({ uri: 'test://items/7' })).contents).toMatchObject([
        { text: 'Item 7' },
      ])
      expect((await client.listPrompts()).prompts).toMatchObject([{ name: 'paint' }])
      const prompt = await client.getPrompt({ name: 'paint', arguments: { color: 'red' } })
      expect(prompt.messages).toMatchObject([{ content: { text: 'Paint it red' } }])
      const { completion } = await client.complete({
        ref: { type: 'ref/prompt', name: 'paint' },
        argument: { name: 'color', value: 'g' },
      })
      expect(completion.values).toEqual(['green'])
    })

    it('reports progress and logs while a tool runs, in order', async () => {
      const client = await connect()
      const progress: number[] = []
      const answer = await client.tool(
        'slow',
        { tag: 'progress', steps: 5, ms: 2 },
        { onprogress: (event) => progress.push(event.progress) },
      )
      expect(answer).toBe('progress done after 5')
      expect(progress).toEqual([1, 2, 3, 4, 5])
      expect(ledger(running.journal, client.logs, { tags: ['progress'] })).toEqual(balanced)
    })

    it.each(['call', 'standalone'])(
      'delivers a burst of un-awaited sends over the %s stream',
      async (via) => {
        const client = await connect()
        await client.listening()
        const tag = `burst-${via}`
        expect(await client.tool('burst', { tag, count: 30, via })).toBe(`${tag} sent 30`)
        await client.log(`${tag}:30`)
        expect(ledger(running.journal, client.logs, { tags: [tag] })).toEqual(balanced)
      },
    )

    it('sends what a tool emits after its call on the standalone stream', async () => {
      const client = await connect()
      await client.listening()
      await client.tool('later', { tag: 'later', count: 3, ms: 5 })
      await client.log('later:3')
      expect(ledger(running.journal, client.logs, { tags: ['later'] })).toEqual(balanced)
    })

    it('filters logs by the level that the client set', async () => {
      const client = await connect()
      await client.listening()
      await client.client.setLoggingLevel('warning')
      await client.tool('log', { tag: 'filtered' })
      await client.log('filtered:error')
      expect(client.logs).toEqual(['filtered:warning', 'filtered:error'])
    })

    it.each(['call', 'standalone'])('samples, elicits and asks for roots over the %s stream', async (via) => {
      const client = await connect()
      await client.listening()
      expect(await client.tool('sample', { prompt: 'hi', via })).toBe('hi -> answer(hi)')
      const elicited = JSON.parse(await client.tool('elicit', { message: 'name?', via }))
      expect(elicited).toMatchObject({ action: 'accept', content: { name: 'asked: name?' } })
      expect(await client.tool('roots', { via })).toBe(rootUri)
    })

    it('gives each of many concurrent samplings its own answer', async () => {
      const held: (() => void)[] = []
      const client = await connect({
        onSample: async (prompt) => {
          // Answered in reverse, so that an answer by order would be the wrong one.
          await new Promise<void>((resolve) => {
            held.push(resolve)
            if (held.length === 4) for (const release of held.reverse()) release()
          })
          return prompt.toUpperCase()
        },
      })
      await client.listening()
      const prompts = ['a', 'b', 'c', 'd']
      const answers = await Promise.all(
        prompts.map((prompt, index) =>
          client.tool('sample', { prompt, via: index % 2 === 0 ? 'call' : 'standalone' }),
        ),
      )
      expect(answers).toEqual(['a -> A', 'b -> B', 'c -> C', 'd -> D'])
    })

    it('pings both ways', async () => {
      const client = await connect()
      await client.listening()
      await client.client.ping()
      expect(await client.tool('ping')).toBe('pong')
    })

    it('cancels a running tool', async () => {
      const client = await connect()
      const abort = new AbortController()
      const call = client.tool(
        'slow',
        { tag: 'cancelled', steps: 1000, ms: 10 },
        { signal: abort.signal, onprogress: () => abort.abort('enough') },
      )
      await expect(call).rejects.toThrow()
      const of = (what: string) =>
        running.journal.entries().some((entry) => entry.what === what && entry.tag === 'cancelled')
      await until('the tool to notice', () => of('aborted'))
      expect(await client.tool('echo', { text: 'still here' })).toBe('still here')
    })

    it('tells of updates to the resources that a client subscribed to', async () => {
      const client = await connect()
      await client.listening()
      expect(await client.tool('touch', { uri: resourceUri })).toBe('nobody subscribed')
      await client.client.subscribeResource({ uri: resourceUri })
      expect(await client.tool('touch', { uri: resourceUri })).toBe('updated')
      await until('the update', () => client.notifications('notifications/resources/updated').length === 1)
      await client.client.unsubscribeResource({ uri: resourceUri })
      expect(await client.tool('touch', { uri: resourceUri })).toBe('nobody subscribed')
    })

    it('keeps state in memory: counters, and tools registered while it runs', async () => {
      const client = await connect()
      await client.listening()
      const counts = [
        await client.tool('counter'),
        await client.tool('counter'),
        await client.tool('counter'),
      ]
      expect(counts).toEqual(['1', '2', '3'])
      await client.tool('register_tool', { name: 'brand_new' })
      await until('the change', () => client.notifications('notifications/tools/list_changed').length > 0)
      const { tools } = await client.client.listTools()
      expect(tools.map((tool) => tool.name)).toContain('brand_new')
      expect(await client.tool('brand_new')).toBe('This is brand_new')
    })

    it('knows its client, and has said so once', async () => {
      const client = await connect()
      const seen = JSON.parse(await client.tool('client'))
      expect(seen).toMatchObject({ name: 'official-client', capabilities: { sampling: {}, roots: {} } })
      const inside = await client.tool('session_id')
      if (sameSessionId) expect(inside).toBe(client.sessionId)
      expect(await client.tool('session_id')).toBe(inside)
      const initialized = running.journal.entries().filter(({ what, session }) => {
        return what === 'initialized' && session === inside
      })
      expect(initialized).toHaveLength(1)
    })

    it('goes on after a tool has closed its stream', async () => {
      const client = await connect()
      expect(await client.tool('cut', { tag: 'cut', before: 2, after: 3 })).toBe('cut cut after 2')
      expect(ledger(running.journal, client.logs, { tags: ['cut'] })).toEqual(balanced)
    })

    it('keeps two clients apart that use the same request ids', async () => {
      const [one, two] = [await connect(), await connect()]
      await Promise.all([one.listening(), two.listening()])
      const [first, second] = await Promise.all([
        one.tool('later', { tag: 'one', count: 2 }),
        two.tool('later', { tag: 'two', count: 2 }),
      ])
      expect([first, second]).toEqual(['one will send 2', 'two will send 2'])
      await Promise.all([one.log('one:2'), two.log('two:2')])
      expect(one.logs).toEqual(['one:1', 'one:2'])
      expect(two.logs).toEqual(['two:1', 'two:2'])
    })

    it('carries a large result', async () => {
      const client = await connect()
      expect(await client.tool('big', { mib: 3 })).toHaveLength((3 * 1024 * 1024) / 2)
    })

    it('ends the session when the client says so', async () => {
      const client = await connect()
      const session = await client.tool('session_id')
      await client.terminate()
      const closed = () =>
        running.journal.entries().some((entry) => entry.what === 'closed' && entry.session === session)
      await until('the app to close it', closed)
    })
  })
}
