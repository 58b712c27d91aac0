import 'reflect-metadata'
import { setTimeout as sleep } from 'node:timers/promises'
import { Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { Ctx, Payload } from '@nestjs/microservices'
import {
  MCP_STRATEGY,
  type McpContext,
  McpController,
  McpStrategy,
  StreamableHttpTransport,
  Tool,
} from '@rekog/mcp-nest'
import { withPersistence } from 'mcp-persist'
import { z } from 'zod'

const text = (said: unknown) => ({ content: [{ type: 'text', text: String(said) }] })

@McpController()
class ExampleController {
  readonly #counts = new WeakMap<object, number>()

  @Tool({ name: 'counter', description: 'Counts the calls of this session.' })
  counter(@Ctx() { mcpServer }: McpContext) {
    const count = (this.#counts.get(mcpServer) ?? 0) + 1
    this.#counts.set(mcpServer, count)
    return text(count)
  }

  @Tool({ name: 'ask', description: 'Asks the user for a name.' })
  async ask(@Ctx() { mcpServer }: McpContext) {
    const { content } = await mcpServer.server.elicitInput({
      message: 'name?',
      requestedSchema: { type: 'object', properties: { name: { type: 'string' } } },
    })
    return text(`hello ${content?.['name']}`)
  }

  @Tool({
    name: 'slow',
    description: 'Takes its time, and says how far it is.',
    parameters: z.object({ steps: z.number() }),
    annotations: { readOnlyHint: true },
  })
  async slow(@Payload() { steps }: { steps: number }, @Ctx() context: McpContext) {
    for (let progress = 1; progress <= steps; progress += 1) {
      await sleep(100)
      await context.reportProgress({ progress, total: steps })
    }
    return text('done')
  }
}

const mcp = new McpStrategy({
  name: 'nest-express-example',
  version: '1.0.0',
  transports: [new StreamableHttpTransport({ statefulMode: true })],
})

@Module({ controllers: [ExampleController], providers: [{ provide: MCP_STRATEGY, useValue: mcp }] })
class AppModule {}

const app = await NestFactory.create(AppModule)
mcp.setHttpAdapter(app.getHttpAdapter())
app.connectMicroservice({ strategy: mcp })
await app.startAllMicroservices()

// mcp-persist: these lines, instead of await app.listen(3000).
const persistent = withPersistence(app, process.env['MCP_PERSIST_URL'] ?? 'sqlite:mcp.db')
persistent.listen(Number(process.env['PORT'] ?? 3000), () => console.log('ready'))
process.once('SIGTERM', () => persistent.close().then(() => process.exit(0)))
