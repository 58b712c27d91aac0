import { expect, test } from 'vitest'
import { Settled } from '../../../src/session/cluster/settled.ts'
import { generator } from '../../support/random.ts'

test('it knows what was settled, in as many ranges as there are holes', () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    const random = generator(seed)
    const settled = new Settled()
    const known = new Set<number>()
    let floor = 1
    for (let step = 0; step < 300; step += 1) {
      const id = floor + Math.floor(random() * 40)
      settled.add(id)
      known.add(id)
      if (random() < 0.1) {
        floor += Math.floor(random() * 10)
        settled.forgetBelow(floor)
      }
      const wrong = Array.from({ length: 45 }, (_, i) => floor + i).filter(
        (each) => settled.has(each) !== known.has(each),
      )
      expect(wrong, `seed ${seed}`).toEqual([])
    }
    expect(settled.ranges).toBeLessThanOrEqual(45)
  }
})
