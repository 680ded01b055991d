// The OpenAI routes on the embedded model: shapes of replies and chunks, choices, scores, forms, refusals.
#include <algorithm>
#include <thread>

#include "route_fixture.h"

namespace bittern::server::testing {
namespace {

OrderedJson chat_body() {
  return {{"model", "mini"},
          {"messages", {{{"role", "user"}, {"content", "What is 2 + 3?"}}}},
          {"temperature", 0},
          {"max_tokens", 12}};
}

/// The objects of a stream; "[DONE]" must end it.
std::vector<OrderedJson> chunks_of(const std::string& body) {
  std::vector<OrderedJson> chunks;
  std::size_t at = 0;
  bool done = false;
  while (at < body.size()) {
    const std::size_t end = body.find("\n\n", at);
    EXPECT_NE(end, std::string::npos);
    const std::string line = body.substr(at, end - at);
    EXPECT_TRUE(line.starts_with("data: ")) << line;
    EXPECT_FALSE(done) << "after [DONE]: " << line;
    done = line == "data: [DONE]";
    if (!done) chunks.push_back(OrderedJson::parse(line.substr(6)));
    at = end + 2;
  }
  EXPECT_TRUE(done);
  return chunks;
}

class OpenAi : public RouteTest {
 protected:
  static constexpr const char* kChat = "/v1/chat/completions";
  static constexpr const char* kCompletions = "/v1/completions";
  std::vector<OrderedJson> stream(const std::string& path, OrderedJson body) {
    body["stream"] = true;
    return chunks_of(send("POST", path, body.dump()).body);
  }
};

TEST_F(OpenAi, ChatHasTheWholeShape) {
  const OrderedJson reply = post(kChat, chat_body());
  EXPECT_EQ(reply["object"], "chat.completion");
  EXPECT_EQ(reply["id"], "chatcmpl-request-1");
  EXPECT_EQ(reply["model"], "mini");
  EXPECT_TRUE(reply["system_fingerprint"].get<std::string>().starts_with("fp_"));
  const OrderedJson& choice = reply["choices"][0];
  EXPECT_EQ(choice["index"], 0);
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_FALSE(choice["message"]["content"].get<std::string>().empty());
  EXPECT_TRUE(choice["message"]["refusal"].is_null());
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(choice["finish_reason"], "stop");
  const OrderedJson& usage = reply["usage"];
  EXPECT_EQ(usage["total_tokens"], usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
  EXPECT_GT(usage["prompt_tokens"], 0);
}

TEST_F(OpenAi, StreamSaysTheSameAsTheWhole) {
  OrderedJson body = chat_body();
  body["stream_options"] = {{"include_usage", true}};
  const OrderedJson whole = post(kChat, chat_body());
  const auto chunks = stream(kChat, body);
  EXPECT_EQ(chunks.front()["choices"][0]["delta"].dump(), R"({"role":"assistant","content":""})");
  std::string text;
  for (const OrderedJson& chunk : chunks) {
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    ASSERT_TRUE(chunk.contains("usage"));
    if (chunk["choices"].empty()) continue;
    EXPECT_TRUE(chunk["usage"].is_null());
    text += chunk["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(text, whole["choices"][0]["message"]["content"]);
  EXPECT_EQ(chunks[chunks.size() - 2]["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(chunks.back()["choices"].empty());
  EXPECT_EQ(chunks.back()["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

TEST_F(OpenAi, WithoutOptionsNoChunkHasUsage) {
  for (const OrderedJson& chunk : stream(kChat, chat_body())) EXPECT_FALSE(chunk.contains("usage"));
}

TEST_F(OpenAi, LogprobsCoverEveryToken) {
  OrderedJson body = chat_body();
  body["logprobs"] = true;
  body["top_logprobs"] = 3;
  const OrderedJson reply = post(kChat, body);
  const OrderedJson& content = reply["choices"][0]["logprobs"]["content"];
  std::string joined;
  for (const OrderedJson& token : content) {
    EXPECT_EQ(token["top_logprobs"].size(), 3u);
    EXPECT_EQ(token["top_logprobs"][0]["token"], token["token"]);  // greedy
    EXPECT_LE(token["logprob"], 0);
    for (const OrderedJson& byte : token["bytes"]) joined += static_cast<char>(byte.get<int>());
  }
  EXPECT_EQ(joined, reply["choices"][0]["message"]["content"]);
  std::size_t streamed = 0;
  for (const OrderedJson& chunk : stream(kChat, body)) {
    const OrderedJson& logprobs = chunk["choices"][0]["logprobs"];
    if (!logprobs.is_null()) streamed += logprobs["content"].size();
  }
  EXPECT_EQ(streamed, content.size());
}

TEST_F(OpenAi, SamplesAreApartAndRepeatableBySeed) {
  OrderedJson body = chat_body();
  body["temperature"] = 1.5;
  body["seed"] = 7;
  body["n"] = 3;
  const OrderedJson first = post(kChat, body), second = post(kChat, body);
  ASSERT_EQ(first["choices"].size(), 3u);
  EXPECT_EQ(first["choices"], second["choices"]);
  EXPECT_EQ(first["choices"][2]["index"], 2);
}

TEST_F(OpenAi, StopTextsEndTheReply) {
  OrderedJson body = chat_body();
  const std::string whole = post(kChat, body)["choices"][0]["message"]["content"];
  const std::string stop = whole.substr(whole.size() / 2, 2);
  body["stop"] = stop;
  const OrderedJson choice = post(kChat, body)["choices"][0];
  EXPECT_EQ(choice["message"]["content"], whole.substr(0, whole.find(stop)));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["stop_reason"], stop);
}

TEST_F(OpenAi, SchemasHold) {
  OrderedJson body = chat_body();
  body["max_tokens"] = 200;
  body["response_format"] = OrderedJson::parse(R"({"type": "json_schema", "json_schema": {"name": "sum", "strict": true,
    "schema": {"type": "object", "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99},
               "sure": {"type": "boolean"}}, "required": ["sum", "sure"], "additionalProperties": false}}})");
  body["n"] = 2;
  const OrderedJson reply = post(kChat, body);
  for (const OrderedJson& choice : reply["choices"]) {
    const OrderedJson value = OrderedJson::parse(choice["message"]["content"].get<std::string>());
    EXPECT_TRUE(value["sum"].is_number_integer() && value["sure"].is_boolean()) << value;
    EXPECT_EQ(choice["finish_reason"], "stop");
  }
}

TEST_F(OpenAi, ChoicesHold) {
  OrderedJson body = chat_body();
  body["guided_choice"] = {"zebra", "giraffe"};
  const std::string text = post(kChat, body)["choices"][0]["message"]["content"];
  EXPECT_TRUE(text == "zebra" || text == "giraffe") << text;
}

TEST_F(OpenAi, AGrammarThatCannotBeHonouredIsRefused) {
  OrderedJson body = chat_body();
  body["guided_regex"] = "(";
  EXPECT_EQ(refused(kChat, body).param(), "guided_regex");
}

OrderedJson weather_tools() {
  return OrderedJson::parse(R"([{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"],
    "additionalProperties": false, "$defs": {"city": {"enum": ["Paris", "Rome"]}}}}},
    {"type": "function", "function": {"name": "now"}}])");
}

TEST_F(OpenAi, ANamedToolIsCalled) {
  OrderedJson body = chat_body();
  body["max_tokens"] = 100;
  body["tools"] = weather_tools();
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "get_weather"}}}};
  const OrderedJson choice = post(kChat, body)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_TRUE(choice["message"]["content"].is_null());
  const OrderedJson& call = choice["message"]["tool_calls"][0];
  EXPECT_TRUE(call["id"].get<std::string>().starts_with("call_"));
  EXPECT_EQ(call["function"]["name"], "get_weather");
  const OrderedJson arguments = OrderedJson::parse(call["function"]["arguments"].get<std::string>());
  EXPECT_TRUE(arguments["city"] == "Paris" || arguments["city"] == "Rome") << arguments;
}

TEST_F(OpenAi, StreamedCallsJoinToTheSame) {
  OrderedJson body = chat_body();
  body["max_tokens"] = 100;
  body["tools"] = weather_tools();
  body["tool_choice"] = {{"type", "function"}, {"function", {{"name", "get_weather"}}}};
  const OrderedJson whole = post(kChat, body)["choices"][0]["message"]["tool_calls"][0]["function"];
  std::string name, arguments, finish;
  for (const OrderedJson& chunk : stream(kChat, body)) {
    const OrderedJson& choice = chunk["choices"][0];
    if (choice["finish_reason"].is_string()) finish = choice["finish_reason"];
    EXPECT_EQ(choice["delta"].value("content", ""), "");
    if (!choice["delta"].contains("tool_calls")) continue;
    const OrderedJson& call = choice["delta"]["tool_calls"][0];
    EXPECT_EQ(call["index"], 0);
    EXPECT_EQ(call.contains("id"), call["function"].contains("name"));
    name += call["function"].value("name", "");
    arguments += call["function"].value("arguments", "");
  }
  EXPECT_EQ(name, whole["name"]);
  EXPECT_EQ(arguments, whole["arguments"]);
  EXPECT_EQ(finish, "tool_calls");
}

TEST_F(OpenAi, RequiredMeansSomeCallAndFunctionsMeanTheOldForm) {
  OrderedJson body = chat_body();
  body["max_tokens"] = 200;
  body["tools"] = weather_tools();
  body["tool_choice"] = "required";
  body["parallel_tool_calls"] = false;
  const OrderedJson message = post(kChat, body)["choices"][0]["message"];
  ASSERT_EQ(message["tool_calls"].size(), 1u);
  OrderedJson old = chat_body();
  old["max_tokens"] = 100;
  old["functions"] = OrderedJson::array({weather_tools()[0]["function"]});
  old["function_call"] = {{"name", "get_weather"}};
  const OrderedJson choice = post(kChat, old)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "function_call");
  EXPECT_EQ(choice["message"]["function_call"]["name"], "get_weather");
}

TEST_F(OpenAi, ToolsAreDescribedToModelsWhoseTemplateKnowsNone) {
  OrderedJson body = chat_body();
  const int before = post(kChat, body)["usage"]["prompt_tokens"];
  body["tools"] = weather_tools();
  EXPECT_GT(post(kChat, body)["usage"]["prompt_tokens"], before + 20);
  body["tool_choice"] = "none";
  EXPECT_EQ(post(kChat, body)["usage"]["prompt_tokens"], before);
}

TEST_F(OpenAi, FinalMessagesAreContinued) {
  OrderedJson body = chat_body();
  body["messages"].push_back({{"role", "assistant"}, {"content", "The answer"}});
  body["continue_final_message"] = true;
  body["echo"] = true;
  body["min_tokens"] = 3;
  const std::string text = post(kChat, body)["choices"][0]["message"]["content"];
  EXPECT_TRUE(text.starts_with("The answer")) << text;
  EXPECT_GT(text.size(), std::string("The answer").size());
}

TEST_F(OpenAi, BadRequestsNameTheirField) {
  OrderedJson body = chat_body();
  body["top_logprobs"] = 2;
  EXPECT_EQ(refused(kChat, body).param(), "top_logprobs");
  body = chat_body();
  body["max_tokens"] = 0;
  EXPECT_EQ(refused(kChat, body).param(), "max_tokens");
  body = chat_body();
  body["audio"] = {{"voice", "x"}};
  EXPECT_EQ(refused(kChat, body).param(), "audio");
  body = chat_body();
  body["model"] = "other";
  const ApiError unknown = refused(kChat, body);
  EXPECT_EQ(unknown.param(), "model");
  EXPECT_EQ(unknown.api_code(), "model_not_found");
  EXPECT_EQ(http_status(unknown.code()), 404);
}

TEST_F(OpenAi, APromptThatIsTooLongSaysBothNumbers) {
  OrderedJson body = chat_body();
  std::string words;
  for (int i = 0; i < 3000; ++i) words += "word ";
  body["messages"][0]["content"] = words;
  const ApiError error = refused(kChat, body);
  EXPECT_EQ(error.api_code(), "context_length_exceeded");
  EXPECT_EQ(error.param(), "messages");
  EXPECT_NE(error.message().find("1024"), std::string::npos) << error.message();
  EXPECT_NE(error.message().find("tokens"), std::string::npos);
}

TEST_F(OpenAi, StrictServersRefuseUnknownFields) {
  OrderedJson body = chat_body();
  body["temprature"] = 1;
  EXPECT_NO_THROW(post(kChat, body));
  options_.strict = true;
  EXPECT_EQ(refused(kChat, body).param(), "temprature");
}

// What lm-evaluation-harness sends, and how it reads the answer.
TEST_F(OpenAi, EchoScoresThePrompt) {
  for (int max_tokens : {0, 1}) {
    const OrderedJson reply = post(kCompletions, {{"model", "mini"},
                                                  {"prompt", {"Once upon a time", "The sun"}},
                                                  {"temperature", 0},
                                                  {"max_tokens", max_tokens},
                                                  {"logprobs", 1},
                                                  {"seed", 1234},
                                                  {"echo", true}});
    ASSERT_EQ(reply["choices"].size(), 2u);
    for (const OrderedJson& choice : reply["choices"]) {
      const OrderedJson& lists = choice["logprobs"];
      const std::size_t size = lists["tokens"].size();
      EXPECT_EQ(lists["token_logprobs"].size(), size);
      EXPECT_EQ(lists["top_logprobs"].size(), size);
      EXPECT_EQ(lists["text_offset"].size(), size);
      EXPECT_TRUE(lists["token_logprobs"][0].is_null());
      EXPECT_TRUE(lists["top_logprobs"][0].is_null());
      for (std::size_t i = 1; i < size; ++i) {
        EXPECT_LE(lists["token_logprobs"][i], 0);
        EXPECT_TRUE(lists["top_logprobs"][i].contains(lists["tokens"][i].get<std::string>()));
      }
    }
    const int prompt_tokens = reply["usage"]["prompt_tokens"];
    const std::size_t all =
        reply["choices"][0]["logprobs"]["tokens"].size() + reply["choices"][1]["logprobs"]["tokens"].size();
    EXPECT_EQ(all, static_cast<std::size_t>(prompt_tokens + 2 * max_tokens));
    EXPECT_EQ(reply["usage"]["completion_tokens"], 2 * max_tokens);
    if (max_tokens == 0) {
      EXPECT_EQ(reply["choices"][0]["text"], "Once upon a time");
    }
  }
}

TEST_F(OpenAi, PromptsMayBeTokens) {
  const OrderedJson text = post(kCompletions, {{"prompt", "The sun"}, {"temperature", 0}, {"return_token_ids", true}});
  const OrderedJson ids = text["choices"][0]["prompt_token_ids"];
  const OrderedJson one = post(kCompletions, {{"prompt", ids}, {"temperature", 0}});
  const OrderedJson two = post(kCompletions, {{"prompt", {ids, ids}}, {"temperature", 0}});
  EXPECT_EQ(one["choices"][0]["text"], text["choices"][0]["text"]);
  EXPECT_EQ(two["choices"][1]["text"], text["choices"][0]["text"]);
  EXPECT_EQ(two["choices"][1]["index"], 1);
  EXPECT_EQ(text["object"], "text_completion");
  EXPECT_EQ(text["usage"]["completion_tokens"], text["choices"][0]["token_ids"].size());
}

TEST_F(OpenAi, BestOfShowsTheLikeliest) {
  OrderedJson body = {{"prompt", "One day"}, {"temperature", 1.5}, {"seed", 3}, {"logprobs", 0}, {"n", 6},
                      {"min_tokens", 2}};
  const auto mean = [](const OrderedJson& choice) {
    double sum = 0;
    for (const OrderedJson& value : choice["logprobs"]["token_logprobs"]) sum += value.get<double>();
    return sum / static_cast<double>(choice["logprobs"]["token_logprobs"].size());
  };
  double best = -1e9;
  const OrderedJson all = post(kCompletions, body);
  for (const OrderedJson& choice : all["choices"]) best = std::max(best, mean(choice));
  body["best_of"] = 6;
  body["n"] = 1;
  const OrderedJson reply = post(kCompletions, body);
  ASSERT_EQ(reply["choices"].size(), 1u);
  EXPECT_DOUBLE_EQ(mean(reply["choices"][0]), best);
}

TEST_F(OpenAi, CompletionsStream) {
  OrderedJson body = {{"prompt", "The sun"}, {"temperature", 0}, {"echo", true}, {"logprobs", 1}};
  const OrderedJson whole = post(kCompletions, body)["choices"][0];
  std::string text;
  OrderedJson tokens = OrderedJson::array(), offsets = OrderedJson::array();
  for (const OrderedJson& chunk : stream(kCompletions, body)) {
    EXPECT_EQ(chunk["object"], "text_completion");
    const OrderedJson& choice = chunk["choices"][0];
    text += choice["text"].get<std::string>();
    for (const auto& one : choice["logprobs"]["tokens"]) tokens.push_back(one);
    for (const auto& one : choice["logprobs"]["text_offset"]) offsets.push_back(one);
  }
  EXPECT_EQ(text, whole["text"]);
  EXPECT_EQ(tokens, whole["logprobs"]["tokens"]);
  EXPECT_EQ(offsets, whole["logprobs"]["text_offset"]);
}

TEST_F(OpenAi, BadCompletionsNameTheirField) {
  EXPECT_EQ(refused(kCompletions, OrderedJson::object()).param(), "prompt");
  EXPECT_EQ(refused(kCompletions, {{"prompt", OrderedJson::array()}}).param(), "prompt");
  EXPECT_EQ(refused(kCompletions, {{"prompt", {1, 999999}}}).param(), "prompt[1]");
  EXPECT_EQ(refused(kCompletions, {{"prompt", {"a", 3}}}).param(), "prompt[1]");
  EXPECT_EQ(refused(kCompletions, {{"prompt", "a"}, {"suffix", "b"}}).param(), "suffix");
  EXPECT_EQ(refused(kCompletions, {{"prompt", "a"}, {"n", 2}, {"best_of", 1}}).param(), "best_of");
  EXPECT_EQ(refused(kCompletions, {{"prompt", "a"}, {"logprobs", 21}}).param(), "logprobs");
  EXPECT_EQ(refused(kCompletions, {{"prompt", "a"}, {"logit_bias", {{"999999", 1}}}}).param(), "logit_bias");
}

TEST_F(OpenAi, AllowedAndBadWordsAreKept) {
  const OrderedJson free = post(kCompletions, {{"prompt", "The sun"}, {"temperature", 0}, {"return_token_ids", true}});
  const int first = free["choices"][0]["token_ids"][0];
  const OrderedJson only = post(kCompletions, {{"prompt", "The sun"},
                                               {"temperature", 0},
                                               {"max_tokens", 4},
                                               {"ignore_eos", true},
                                               {"return_token_ids", true},
                                               {"allowed_token_ids", {first}}});
  EXPECT_EQ(only["choices"][0]["token_ids"][0], first);
  const std::string text = free["choices"][0]["text"];
  const std::string word = text.substr(1, text.find(' ', 1) - 1);
  const OrderedJson without = post(kCompletions, {{"prompt", "The sun"}, {"temperature", 0}, {"bad_words", {word}}});
  EXPECT_NE(without["choices"][0]["text"], text);
}

TEST_F(OpenAi, DroppingTheReplyFreesTheBlocks) {
  HttpRequest request;
  request.method = "POST";
  request.path = kChat;
  OrderedJson body = chat_body();
  body["stream"] = true;
  body["ignore_eos"] = true;
  body["max_tokens"] = 900;
  request.body = body.dump();
  auto& engine = pool().acquire("mini")->engine();
  {
    HttpReply reply = route("POST", kChat).handler(request);
    Bell bell;
    reply.source->start(bell.wake());
    std::string out;
    for (int i = 0; i < 10; ++i) {
      ASSERT_FALSE(reply.source->poll(out));
      bell.wait();
    }
    EXPECT_GT(engine.stats().blocks_used, 0);
  }
  for (int i = 0; i < 1000 && engine.stats().running > 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(engine.stats().running, 0);
  EXPECT_EQ(engine.stats().blocks_used, 0);
}

}  // namespace
}  // namespace bittern::server::testing
