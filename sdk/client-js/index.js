/* SPDX-License-Identifier: Apache-2.0 */
export { ChatClient } from "./client.js";
export { Refusal, newId } from "./connection.js";
export { ApiError } from "./rest.js";
