// What every script here asks of its SDK, and the one JSON document it prints about it.
//
// Environment: GATEWAY is the base URL without a version, KEY an API key, MODEL a model name.
// The upstream is silent before HELLO is answered, so that pings come first.
// Each ask is run on its own; one that throws is reported as {error, status} instead.

export const { GATEWAY, KEY, MODEL } = process.env

export const HELLO = 'Hello from Node, naïve café ☕ [[sim cached=3 strict=1 fault=slow-first:0.3]]'
export const ASK = 'Weather in two places, please [[sim tools=2 strict=1]]'

export const TOOL = {
  name: 'weather',
  description: 'The weather of a city',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string' }, days: { type: 'integer', minimum: 3 } },
    required: ['city', 'days'],
    additionalProperties: false,
  },
}

// The result of a call; the simulator repeats it in its answer.
export const result = ({ city, days }) => `${days} days of sun in ${city}`

export async function tell(asks) {
  const seen = {}
  for (const [name, ask] of Object.entries(asks)) {
    try {
      seen[name] = await ask()
    } catch (error) {
      const status = error.status ?? error.statusCode ?? null
      seen[name] = { error: `${error.name}: ${error.message}`, status }
    }
  }
  process.stdout.write(JSON.stringify(seen) + '\n')
}
