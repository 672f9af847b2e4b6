import Anthropic from '@anthropic-ai/sdk'
import { ASK, GATEWAY, HELLO, KEY, MODEL, TOOL, result, tell } from './scene.mjs'

const client = new Anthropic({ baseURL: GATEWAY, apiKey: KEY, maxRetries: 0 })
const hello = { model: MODEL, max_tokens: 1000, messages: [{ role: 'user', content: HELLO }] }
const { parameters: input_schema, ...tool } = TOOL
const ask = {
  ...hello,
  messages: [{ role: 'user', content: ASK }],
  tools: [{ ...tool, input_schema }],
}

const calls = (message) => message.content.filter(({ type }) => type === 'tool_use')
const texts = (message) => message.content.filter(({ type }) => type === 'text')

// Input as a whole, as the other dialects count it.
const usage = (u) => ({
  input: u.input_tokens + (u.cache_read_input_tokens ?? 0) + (u.cache_creation_input_tokens ?? 0),
  output: u.output_tokens,
  cached: u.cache_read_input_tokens ?? 0,
})

const answer = (message) => ({
  text: texts(message).map(({ text }) => text).join(''),
  finish: message.stop_reason,
  calls: calls(message).map(({ name, input }) => [name, input]),
  usage: usage(message.usage),
  model: message.model,
})

const streamed = (body) => client.messages.stream(body).finalMessage()

async function settled(create) {
  const first = await create(ask)
  const results = calls(first).map(({ id, input }) => ({
    type: 'tool_result',
    tool_use_id: id,
    content: result(input),
  }))
  const turns = [
    { role: 'assistant', content: first.content },
    { role: 'user', content: results },
  ]
  const last = await create({ ...ask, messages: [...ask.messages, ...turns] })
  return { called: answer(first), settled: answer(last) }
}

await tell({
  plain: async () => answer(await client.messages.create(hello)),
  streamed: async () => answer(await streamed(hello)),
  tools: () => settled((body) => client.messages.create(body)),
  toolsStreamed: () => settled(streamed),
})
