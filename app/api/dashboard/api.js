// The service's HTTP API. Failures carry the words of its problem documents.

import { token } from "./session.js";

/** The service answered, and refused: `message` is the problem document's detail. */
export class ProblemError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The service answered ${status}.`);
    this.status = status;
    this.code = problem.code ?? "";
  }
}

/** There is no token, or a wrong one. */
export class SignedOutError extends ProblemError {}

/** The service did not answer at all. */
export class UnreachableError extends Error {
  constructor() {
    super("The service does not answer.");
  }
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

/** One request; the response once its headers are there, and it is a good one. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  // A header takes printable ASCII only; any other token is wrong, and the service is to say so.
  const given = token();
  const bearer = /^[\x21-\x7e]+$/.test(given) ? given : given && "not-a-token";
  const all = { ...headers, ...(bearer && { Authorization: `Bearer ${bearer}` }) };
  if (body !== undefined) {
    all["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: all,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new UnreachableError();
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    throw response.status === 401
      ? new SignedOutError(response.status, problem)
      : new ProblemError(response.status, problem);
  }
  return response;
}

async function json(method, path, options) {
  const response = await send(method, path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new UnreachableError(); // It was cut off in the middle of its answer.
  }
}

const at = (collection, id) => `${collection}/${encodeURIComponent(id)}`;

export const listMultilinks = async (options) => (await json("GET", "/multilinks", options)).multilinks;
export const listLinks = async (options) => (await json("GET", "/links", options)).links;
export const listHandoffs = async (options) => (await json("GET", "/handoffs", options)).handoffs;
export const getHandoff = (id, options) => json("GET", at("/handoffs", id), options);
export const getHistory = (id, options) => json("GET", `${at("/links", id)}/history`, options);
export const createLink = (body) => json("POST", "/links", { body });
export const updateLink = (id, body) => json("PATCH", at("/links", id), { body });
export const retireLink = (id, drainS) => json("DELETE", `${at("/links", id)}?drain_s=${drainS}`);
export const createHandoff = (body, key) => json("POST", "/handoffs", { body, headers: { "Idempotency-Key": key } });
export const abortHandoff = (id) => json("DELETE", at("/handoffs", id));
