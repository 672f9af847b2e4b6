import OpenAI from 'openai'
import { ASK, GATEWAY, HELLO, KEY, MODEL, TOOL, result, tell } from './scene.mjs'

const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0 })
const hello = { model: MODEL, input: HELLO, store: false }
const tools = [{ type: 'function', strict: false, ...TOOL }]
const ask = { model: MODEL, input: [{ role: 'user', content: ASK }], tools, store: false }

const calls = (response) => response.output.filter(({ type }) => type === 'function_call')

const answer = (response) => ({
  text: response.output_text,
  finish: response.status,
  calls: calls(response).map((call) => [call.name, JSON.parse(call.arguments)]),
  usage: {
    input: response.usage.input_tokens,
    output: response.usage.output_tokens,
    cached: response.usage.input_tokens_details.cached_tokens,
  },
  model: response.model,
})

// As it was received: the SDK adds members to what it streamed.
const replayed = ({ type, call_id, name, arguments: args }) => ({
  type,
  call_id,
  name,
  arguments: args,
})

// What the deltas gave has to be what the last event says.
async function streamed(body) {
  const stream = client.responses.stream(body)
  let text = ''
  for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta
  const final = await stream.finalResponse()
  if (text !== final.output_text) throw new Error(`deltas ${text}, final ${final.output_text}`)
  return final
}

async function settled(respond) {
  const first = await respond(ask)
  const results = calls(first).map((call) => ({
    type: 'function_call_output',
    call_id: call.call_id,
    output: result(JSON.parse(call.arguments)),
  }))
  const turns = [...calls(first).map(replayed), ...results]
  const last = await respond({ ...ask, input: [...ask.input, ...turns] })
  return { called: answer(first), settled: answer(last) }
}

await tell({
  plain: async () => answer(await client.responses.create(hello)),
  streamed: async () => answer(await streamed(hello)),
  tools: () => settled((body) => client.responses.create(body)),
  toolsStreamed: () => settled(streamed),
})
