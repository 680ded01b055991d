// The server as the page sees it: the list of models, a streamed reply, and the metrics. Every failure becomes an
// ApiError whose message is a sentence that can be shown.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const headers = (key) => (key ? { authorization: `Bearer ${key}` } : {});

async function call(path, key, init = {}) {
  let reply;
  try {
    reply = await fetch(path, { ...init, headers: { ...headers(key), ...init.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.", 0);
  }
  if (reply.ok) return reply;
  let message = "";
  try {
    message = (await reply.json()).error.message;
  } catch { /* not an error object: the status says enough */ }
  if (reply.status === 401) message = key ? "The server refuses this API key." : "The server asks for an API key.";
  if (reply.status === 429) message = `The server is full. ${message}`;
  throw new ApiError(message || `The server answered with status ${reply.status}.`, reply.status);
}

export async function models(key) {
  return (await (await call("/v1/models", key)).json()).data;
}

export async function metrics(key) {
  return (await call("/metrics", key)).text();
}

/// Yields the objects of a streamed chat completion.
export async function* chat(request, key, signal) {
  const reply = await call("/v1/chat/completions", key, {
    method: "POST",
    signal,
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } }),
  });
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("The connection broke before the reply was complete.", 0);
    }
    if (part.done) throw new ApiError("The reply ended early.", 0);
    rest += part.value;
    const lines = rest.split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message || "The server broke off the reply.", 0);
      yield event;
    }
  }
}
