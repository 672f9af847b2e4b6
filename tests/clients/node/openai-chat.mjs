import OpenAI from 'openai'
import { ASK, GATEWAY, HELLO, KEY, MODEL, TOOL, result, tell } from './scene.mjs'

const client = new OpenAI({ baseURL: `${GATEWAY}/v1`, apiKey: KEY, maxRetries: 0 })
const { completions } = client.chat
const hello = { model: MODEL, messages: [{ role: 'user', content: HELLO }] }
const tools = [{ type: 'function', function: TOOL }]
const ask = { model: MODEL, messages: [{ role: 'user', content: ASK }], tools }

const usage = (u) => ({
  input: u.prompt_tokens,
  output: u.completion_tokens,
  cached: u.prompt_tokens_details?.cached_tokens ?? 0,
})

const answer = ({ choices: [{ message, finish_reason }], usage: u, model }) => ({
  text: message.content ?? '',
  finish: finish_reason,
  calls: (message.tool_calls ?? []).map(({ function: f }) => [f.name, JSON.parse(f.arguments)]),
  usage: usage(u),
  model,
})

// As it was received: the SDK adds members to what it streamed.
const replayed = ({ role, content, tool_calls }) => ({
  role,
  content,
  tool_calls: tool_calls.map(({ id, type, function: f }) => ({
    id,
    type,
    function: { name: f.name, arguments: f.arguments },
  })),
})

const streamed = (body) =>
  completions.stream({ ...body, stream_options: { include_usage: true } }).finalChatCompletion()

async function settled(complete) {
  const first = await complete(ask)
  const { message } = first.choices[0]
  const results = message.tool_calls.map(({ id, function: f }) => ({
    role: 'tool',
    tool_call_id: id,
    content: result(JSON.parse(f.arguments)),
  }))
  const turns = [replayed(message), ...results]
  const last = await complete({ ...ask, messages: [...ask.messages, ...turns] })
  return { called: answer(first), settled: answer(last) }
}

await tell({
  plain: async () => answer(await completions.create(hello)),
  streamed: async () => answer(await streamed(hello)),
  tools: () => settled((body) => completions.create(body)),
  toolsStreamed: () => settled(streamed),
})
