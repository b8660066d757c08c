// SPDX-License-Identifier: Apache-2.0
// The mock endpoint and what it answers: the request's prompt names the scenario. Prints its address, and ends with
// its stdin.
import { LLMock } from "@copilotkit/aimock";

const good = {
    content: "Tile the loop by 64 and keep the accumulators in registers.",
    usage: { prompt_tokens: 120, completion_tokens: 14, input_tokens: 120, output_tokens: 14, total_tokens: 134 },
};
const mock = new LLMock({ port: 0, host: "127.0.0.1", logLevel: "warn" });

// Answers to the k-th request of a scenario, the last one from then on.
function scenario(name, ...answers) {
    answers.forEach(({ response, ...how }, k) => {
        const match = { userMessage: `scenario ${name}.` };
        if (k + 1 < answers.length) match.sequenceIndex = k;
        mock.addFixture({ match, response, ...how });
    });
}
const failure = (status, message, more) => ({ response: { error: { message, type: "server_error" }, status, ...more } });
const answer = { response: good };

scenario("plain", answer);
scenario("stream", { response: good, chunkSize: 3, streamingProfile: { ttft: 20, tps: 500 } });
scenario("responses", { response: good, chunkSize: 3 });
scenario("busy", failure(429, "slow down", { retryAfter: 1 }), answer);
scenario("chaos-busy", { response: good, chaos: { rateLimitRate: 1 } }, answer);
scenario("down", failure(500, "out of order"), failure(503, "still out of order"), answer);
scenario("broke", failure(500, "out of order for good"));
scenario("cut", { response: { content: "Tile the", finishReason: "length" } });
scenario("malformed", { response: good, chaos: { malformedRate: 1 } }, answer);
scenario("garbled", { response: good, chaos: { malformedRate: 1 } });
scenario("gone", { response: good, chaos: { disconnectRate: 1 } }, answer);
scenario("broken", { response: good, chunkSize: 4, latency: 60, disconnectAfterMs: 250 }, answer);
scenario("drip", { response: good, chunkSize: 2, latency: 400 });
scenario("slow", { response: good, chunkSize: 2, latency: 100 });
mock.addFixture({
    match: { userMessage: "scenario form.", responseFormat: "json_schema" },
    response: { content: JSON.stringify({ tile: 64 }) },
});

await mock.start();
console.log(mock.url);
process.stdin.on("end", () => process.exit(0)).resume();
