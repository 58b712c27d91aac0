import { expect, it } from 'vitest'
import { conformanceApp } from '../support/apps/conformance-app.ts'
import { listen } from '../support/net/listen.ts'
import { conformance, failures } from './suite.ts'

// The measure: the same fixture wrapped has to pass exactly this.
it('the fixture without us passes every check of the official suite', { timeout: 240_000 }, async () => {
  const { origin, close } = await listen(conformanceApp())
  try {
    const checks = await conformance(`${origin}/mcp`)
    expect(failures(checks)).toEqual([])
    expect(checks.size).toBeGreaterThanOrEqual(84)
  } finally {
    await close()
  }
})
