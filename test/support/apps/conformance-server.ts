import { setTimeout as sleep } from 'node:timers/promises'
import { completable } from '@modelcontextprotocol/sdk/server/completable.js'
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js'
import {
  type ContentBlock,
  CreateMessageResultSchema,
  type ElicitRequestFormParams,
  ElicitResultSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { z } from 'zod'

/** The smallest PNG and the smallest WAV. */
const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=='
const wav = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA='

const text = (value: string) => ({ type: 'text' as const, text: value })
const image = { type: 'image' as const, data: png, mimeType: 'image/png' }
const say = (...content: ContentBlock[]) => ({ content })
const embedded = (uri: string, mimeType: string, value: string) => ({
  type: 'resource' as const,
  resource: { uri, mimeType, text: value },
})

/** What the official conformance suite expects to find: names and answers are the suite's. */
export function buildConformanceServer(): McpServer {
  const mcp = new McpServer(
    { name: 'conformance-fixture', version: '1.0.0' },
    { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } } },
  )
  contents(mcp)
  jsonSchema(mcp)
  notifications(mcp)
  requests(mcp)
  resources(mcp)
  prompts(mcp)
  return mcp
}

function contents(mcp: McpServer): void {
  const answers: Record<string, ContentBlock[]> = {
    test_simple_text: [text('This is a simple text response for testing.')],
    test_image_content: [image],
    test_audio_content: [{ type: 'audio', data: wav, mimeType: 'audio/wav' }],
    test_embedded_resource: [
      embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'),
    ],
    test_multiple_content_types: [
      text('Multiple content types test:'),
      image,
      embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
    ],
  }
  for (const [name, content] of Object.entries(answers)) {
    mcp.registerTool(name, { description: `Returns the content of ${name}` }, () => say(...content))
  }
  mcp.registerTool('test_error_handling', { description: 'Always fails' }, () => {
    throw new Error('This tool intentionally returns an error for testing')
  })
}

/** Keywords that no zod type stands for travel as its metadata. */
function jsonSchema(mcp: McpServer): void {
  const address = z.object({ street: z.string(), city: z.string() }).partial()
  const inputSchema = z
    .strictObject({
      name: z.string().optional(),
      address: address.optional(),
      contactMethod: z.enum(['phone', 'email']).optional(),
      phone: z.string().optional(),
      email: z.string().optional(),
    })
    .meta({
      $schema: 'https://json-schema.org/draft/2020-12/schema',
      $defs: {
        address: {
          $anchor: 'addressDef',
          type: 'object',
          properties: { street: { type: 'string' }, city: { type: 'string' } },
        },
      },
      allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
      if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { required: ['phone'] },
      else: { required: ['email'] },
    })
  const description = 'Uses the keywords of JSON Schema 2020-12'
  mcp.registerTool('json_schema_2020_12_tool', { description, inputSchema }, () => say(text('Accepted.')))
}

function notifications(mcp: McpServer): void {
  mcp.registerTool('test_tool_with_logging', { description: 'Logs three lines' }, async (extra) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await extra.sendNotification({ method: 'notifications/message', params: { level: 'info', data } })
      await sleep(50)
    }
    return say(text('Logged three lines.'))
  })
  mcp.registerTool('test_tool_with_progress', { description: 'Reports progress' }, async (extra) => {
    const progressToken = extra._meta?.progressToken
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) {
        const params = { progressToken, progress, total: 100 }
        await extra.sendNotification({ method: 'notifications/progress', params })
      }
      await sleep(50)
    }
    return say(text('Reported progress.'))
  })
  mcp.registerTool('test_reconnection', { description: 'Closes its stream, then answers' }, async (extra) => {
    extra.closeSSEStream?.()
    await sleep(100)
    return say(text('Answered after the stream was closed.'))
  })
}

function requests(mcp: McpServer): void {
  mcp.registerTool(
    'test_sampling',
    { description: 'Asks the client to sample', inputSchema: { prompt: z.string() } },
    async ({ prompt }, extra) => {
      const messages = [{ role: 'user' as const, content: text(prompt) }]
      const request = { method: 'sampling/createMessage' as const, params: { messages, maxTokens: 100 } }
      const { content } = await extra.sendRequest(request, CreateMessageResultSchema)
      return say(text(`LLM response: ${content.type === 'text' ? content.text : content.type}`))
    },
  )
  const elicitations: Record<string, ElicitRequestFormParams['requestedSchema']> = {
    test_elicitation: {
      type: 'object',
      properties: {
        username: { type: 'string', description: "User's response" },
        email: { type: 'string', description: "User's email address" },
      },
      required: ['username', 'email'],
    },
    test_elicitation_sep1034_defaults: {
      type: 'object',
      properties: {
        name: { type: 'string', default: 'John Doe' },
        age: { type: 'integer', default: 30 },
        score: { type: 'number', default: 95.5 },
        status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
        verified: { type: 'boolean', default: true },
      },
    },
    test_elicitation_sep1330_enums: {
      type: 'object',
      properties: {
        untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
        titledSingle: {
          type: 'string',
          oneOf: [
            { const: 'value1', title: 'First Option' },
            { const: 'value2', title: 'Second Option' },
            { const: 'value3', title: 'Third Option' },
          ],
        },
        legacyEnum: {
          type: 'string',
          enum: ['opt1', 'opt2', 'opt3'],
          enumNames: ['Option One', 'Option Two', 'Option Three'],
        },
        untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
        titledMulti: {
          type: 'array',
          items: {
            anyOf: [
              { const: 'value1', title: 'First Choice' },
              { const: 'value2', title: 'Second Choice' },
              { const: 'value3', title: 'Third Choice' },
            ],
          },
        },
      },
    },
  }
  for (const [name, requestedSchema] of Object.entries(elicitations)) {
    mcp.registerTool(
      name,
      {
        description: 'Asks the user',
        inputSchema: { message: z.string().default('Please fill in the form') },
      },
      async ({ message }, extra) => {
        const request = { method: 'elicitation/create' as const, params: { message, requestedSchema } }
        const { action, content } = await extra.sendRequest(request, ElicitResultSchema)
        const verb = name === 'test_elicitation' ? 'User response' : 'Elicitation completed'
        return say(text(`${verb}: action=${action}, content=${JSON.stringify(content ?? {})}`))
      },
    )
  }
}

function resources(mcp: McpServer): void {
  mcp.registerResource(
    'static-text',
    'test://static-text',
    { description: 'A static text', mimeType: 'text/plain' },
    ({ href: uri }) => ({
      contents: [{ uri, mimeType: 'text/plain', text: 'This is the content of the static text resource.' }],
    }),
  )
  mcp.registerResource(
    'static-binary',
    'test://static-binary',
    { description: 'A static image', mimeType: 'image/png' },
    ({ href: uri }) => ({ contents: [{ uri, mimeType: 'image/png', blob: png }] }),
  )
  mcp.registerResource(
    'watched-resource',
    'test://watched-resource',
    { description: 'A resource to subscribe to', mimeType: 'text/plain' },
    ({ href: uri }) => ({ contents: [{ uri, mimeType: 'text/plain', text: 'Watch me.' }] }),
  )
  mcp.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'Data by id', mimeType: 'application/json' },
    ({ href: uri }, { id }) => {
      const data = { id, templateTest: true, data: `Data for ID: ${String(id)}` }
      return { contents: [{ uri, mimeType: 'application/json', text: JSON.stringify(data) }] }
    },
  )
  const subscriptions = new Set<string>()
  mcp.server.setRequestHandler(SubscribeRequestSchema, ({ params }) => {
    subscriptions.add(params.uri)
    return {}
  })
  mcp.server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => {
    subscriptions.delete(params.uri)
    return {}
  })
}

function prompts(mcp: McpServer): void {
  const user = (content: ContentBlock) => ({ role: 'user' as const, content })
  mcp.registerPrompt('test_simple_prompt', { description: 'A simple prompt' }, () => ({
    messages: [user(text('This is a simple prompt for testing.'))],
  }))
  mcp.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'A prompt with arguments', argsSchema: completableArguments() },
    ({ arg1, arg2 }) => ({
      messages: [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
    }),
  )
  mcp.registerPrompt(
    'test_prompt_with_embedded_resource',
    { description: 'A prompt with a resource', argsSchema: { resourceUri: z.string() } },
    ({ resourceUri }) => ({
      messages: [
        user(embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.')),
        user(text('Please process the embedded resource above.')),
      ],
    }),
  )
  mcp.registerPrompt('test_prompt_with_image', { description: 'A prompt with an image' }, () => ({
    messages: [user(image), user(text('Please analyze the image above.'))],
  }))
}

function completableArguments() {
  const words = ['paris', 'park', 'party', 'test']
  return {
    arg1: completable(z.string(), (value) => words.filter((word) => word.startsWith(value))),
    arg2: z.string(),
  }
}
