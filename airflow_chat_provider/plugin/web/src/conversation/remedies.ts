// What can be done about each kind of failure, by the names under which XComs count them: a class, and a status.

const BY_STATUS = new Map(Object.entries({
  "StatusError 400": "Correct the request: the server does not take a value in it.",
  "StatusError 401": "Check the API key (password) of the connection.",
  "StatusError 402": "Raise the quota or pay the bill: the account has no credit.",
  "StatusError 403": "Ask for access: the key may not do this.",
  "StatusError 404": "Check the base URL and the model: the server does not have what was asked for.",
  "StatusError 405": "Check the base URL and the endpoint: something else listens there.",
  "StatusError 408": "Try again later: the server waited too long.",
  "StatusError 413": "Send a smaller request: it is larger than the server, or a gateway before it, takes.",
  "StatusError 422": "Correct the request: the server does not take a value in it.",
  "StatusError 429": "Raise the quota or pay the bill: waiting does not help.",
}));

const BY_CLASS = new Map(Object.entries({
  RateLimited: "Wait, or let fewer requests run at once (a pool, requests_per_minute).",
  StatusError: "Try again later: the server failed.",
  TransportTimeout: "Raise timeout or deadline, or ask for fewer tokens: no answer came in time.",
  TransportError: "Check the base URL, proxy and TLS extras of the connection: no complete response came.",
  ProtocolError: "Check the base URL: what came with a status of success is not a chat completion.",
  IncompleteReply: "Raise the token limit or change the prompt: the answer was cut off, filtered or refused.",
  InvalidOutput: "Change the prompt, the schema or output_retries: the answer does not fit.",
  InvalidRequest: "Correct the task: nothing was sent.",
  InvalidConnection: "Correct the connection: nothing was sent.",
}));

export function remedyOf(kind: string): string | null {
  const [name = "", status = ""] = kind.split(" ");
  const moved = /^3\d\d$/.test(status) ? "Correct the base URL and the endpoint: redirects are not followed." : null;
  const shared = /^4\d\d$/.test(status) && name === "StatusError" ? "Correct the request: the server refuses it." : null;
  return BY_STATUS.get(kind) ?? moved ?? shared ?? BY_CLASS.get(name) ?? null;
}
