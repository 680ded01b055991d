// Every field of a request that says how text is made: valid, of a wrong type, out of range.
#include "server/generation/fields.h"

#include <gtest/gtest.h>

#include "server/generation/chat_input.h"
#include "server/generation/settings.h"

namespace bittern::server {
namespace {

GenerationSettings settings_of(const OrderedJson& body) {
  Fields fields(body);
  return read_generation_settings(fields);
}

/// The field that the error names.
template <class Read>
std::string refused(Read read) {
  try {
    read();
  } catch (const ApiError& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_NE(std::string(error.what()).find(error.param()), std::string::npos) << error.what();
    return error.param();
  }
  return "(nothing was refused)";
}

std::string refused_setting(const std::string& json) {
  return refused([&] { settings_of(OrderedJson::parse(json)); });
}

TEST(Settings, DefaultsAreTheApis) {
  const GenerationSettings settings = settings_of(OrderedJson::object());
  EXPECT_EQ(settings.sampling.temperature, 1.0);
  EXPECT_EQ(settings.sampling.top_p, 1.0);
  EXPECT_EQ(settings.sampling.top_k, 0);
  EXPECT_EQ(settings.n, 1);
  EXPECT_FALSE(settings.sampling.seed.has_value());
  EXPECT_FALSE(settings.stream.stream);
  EXPECT_TRUE(settings.skip_special);
  EXPECT_FALSE(settings.constraint);
}

TEST(Settings, EveryFieldArrives) {
  const GenerationSettings s = settings_of(OrderedJson::parse(R"({
    "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1, "presence_penalty": -1,
    "frequency_penalty": 2, "logit_bias": {"5": -100, "7": 1.5}, "seed": 42, "ignore_eos": true, "min_tokens": 3,
    "stop_token_ids": [1, 2], "prompt_logprobs": 2, "n": 3, "priority": -4, "request_id": "abc", "cache_salt": "s", "stop": ["a", "b"],
    "include_stop_str_in_output": true, "skip_special_tokens": false, "allowed_token_ids": [9],
    "bad_words": ["bad"], "truncate_prompt_tokens": 10, "return_token_ids": true,
    "return_tokens_as_token_ids": true, "stream": true,
    "stream_options": {"include_usage": true, "continuous_usage_stats": true}})"));
  EXPECT_EQ(s.sampling.temperature, 0.5);
  EXPECT_EQ(s.sampling.top_p, 0.9);
  EXPECT_EQ(s.sampling.top_k, 40);
  EXPECT_EQ(s.sampling.min_p, 0.1);
  EXPECT_EQ(s.sampling.repetition_penalty, 1.1);
  EXPECT_EQ(s.sampling.presence_penalty, -1);
  EXPECT_EQ(s.sampling.frequency_penalty, 2);
  EXPECT_EQ(s.sampling.logit_bias, (std::map<std::int32_t, float>{{5, -100.0f}, {7, 1.5f}}));
  EXPECT_EQ(s.sampling.seed, 42u);
  EXPECT_TRUE(s.sampling.ignore_eos);
  EXPECT_EQ(s.sampling.min_tokens, 3);
  EXPECT_EQ(s.sampling.stop_ids, (std::vector<std::int32_t>{1, 2}));
  EXPECT_EQ(s.sampling.prompt_logprobs, 2);
  EXPECT_EQ(s.n, 3);
  EXPECT_EQ(s.priority, -4);
  EXPECT_EQ(s.request_id, "abc");
  EXPECT_EQ(s.cache_salt, "s");
  EXPECT_EQ(s.stop, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(s.include_stop);
  EXPECT_FALSE(s.skip_special);
  EXPECT_EQ(s.allowed_tokens, std::vector<std::int32_t>{9});
  EXPECT_EQ(s.bad_words, std::vector<std::string>{"bad"});
  EXPECT_EQ(s.truncate_prompt, 10);
  EXPECT_TRUE(s.return_token_ids && s.tokens_as_ids && s.stream.stream && s.stream.include_usage);
  EXPECT_TRUE(s.stream.continuous_usage);
}

TEST(Settings, SpellingsOfTheSame) {
  EXPECT_EQ(settings_of({{"top_k", -1}}).sampling.top_k, 0);
  EXPECT_EQ(settings_of({{"random_seed", 5}}).sampling.seed, 5u);
  EXPECT_EQ(settings_of({{"seed", -1}}).sampling.seed, ~std::uint64_t{0});
  EXPECT_EQ(settings_of({{"min_new_tokens", 5}}).sampling.min_tokens, 5);
  EXPECT_EQ(settings_of({{"stop", "one"}}).stop, std::vector<std::string>{"one"});
  EXPECT_EQ(settings_of({{"temperature", nullptr}, {"stop", nullptr}}).sampling.temperature, 1.0);
}

struct Bad {
  const char* json;
  const char* field;
};
void PrintTo(const Bad& bad, std::ostream* out) { *out << bad.json; }

class BadSetting : public ::testing::TestWithParam<Bad> {};

TEST_P(BadSetting, IsNamed) { EXPECT_EQ(refused_setting(GetParam().json), GetParam().field); }

INSTANTIATE_TEST_SUITE_P(
    Types, BadSetting,
    ::testing::Values(Bad{R"({"temperature": "hot"})", "temperature"}, Bad{R"({"top_p": [1]})", "top_p"},
                      Bad{R"({"top_k": 1.5})", "top_k"}, Bad{R"({"min_p": "0"})", "min_p"},
                      Bad{R"({"repetition_penalty": {}})", "repetition_penalty"},
                      Bad{R"({"presence_penalty": true})", "presence_penalty"},
                      Bad{R"({"frequency_penalty": ""})", "frequency_penalty"},
                      Bad{R"({"logit_bias": [1]})", "logit_bias"}, Bad{R"({"logit_bias": {"x": 1}})", "logit_bias"},
                      Bad{R"({"logit_bias": {"3": "a"}})", "logit_bias.3"}, Bad{R"({"seed": "s"})", "seed"},
                      Bad{R"({"ignore_eos": 1})", "ignore_eos"}, Bad{R"({"min_tokens": "1"})", "min_tokens"},
                      Bad{R"({"stop_token_ids": 3})", "stop_token_ids"}, Bad{R"({"n": "2"})", "n"},
                      Bad{R"({"priority": []})", "priority"}, Bad{R"({"request_id": 3})", "request_id"},
                      Bad{R"({"stop": 3})", "stop"}, Bad{R"({"stop": [""]})", "stop"},
                      Bad{R"({"include_stop_str_in_output": "yes"})", "include_stop_str_in_output"},
                      Bad{R"({"skip_special_tokens": 0})", "skip_special_tokens"},
                      Bad{R"({"allowed_token_ids": "1"})", "allowed_token_ids"},
                      Bad{R"({"bad_words": {}})", "bad_words"}, Bad{R"({"stream": "true"})", "stream"},
                      Bad{R"({"stream_options": 1})", "stream_options"},
                      Bad{R"({"stream_options": {"include_usage": 1}})", "stream_options.include_usage"},
                      Bad{R"({"return_token_ids": "x"})", "return_token_ids"},
                      Bad{R"({"return_tokens_as_token_ids": 1})", "return_tokens_as_token_ids"}));

INSTANTIATE_TEST_SUITE_P(
    Ranges, BadSetting,
    ::testing::Values(Bad{R"({"temperature": -0.1})", "temperature"}, Bad{R"({"temperature": 2.1})", "temperature"},
                      Bad{R"({"top_p": 0})", "top_p"}, Bad{R"({"top_p": 1.1})", "top_p"},
                      Bad{R"({"top_k": -2})", "top_k"}, Bad{R"({"min_p": 1.5})", "min_p"},
                      Bad{R"({"repetition_penalty": 0})", "repetition_penalty"},
                      Bad{R"({"presence_penalty": 3})", "presence_penalty"},
                      Bad{R"({"frequency_penalty": -3})", "frequency_penalty"},
                      Bad{R"({"logit_bias": {"3": 101}})", "logit_bias.3"}, Bad{R"({"min_tokens": -1})", "min_tokens"},
                      Bad{R"({"prompt_logprobs": 21})", "prompt_logprobs"}, Bad{R"({"n": 0})", "n"},
                      Bad{R"({"n": 129})", "n"}, Bad{R"({"truncate_prompt_tokens": 0})", "truncate_prompt_tokens"},
                      Bad{R"({"allowed_token_ids": []})", "allowed_token_ids"}));

INSTANTIATE_TEST_SUITE_P(
    Impossible, BadSetting,
    ::testing::Values(Bad{R"({"use_beam_search": true})", "use_beam_search"},
                      Bad{R"({"length_penalty": 0.5})", "length_penalty"},
                      Bad{R"({"spaces_between_special_tokens": false})", "spaces_between_special_tokens"},
                      Bad{R"({"thinking_token_budget": 5})", "thinking_token_budget"},
                      Bad{R"({"structured_outputs": {"structural_tag": "x"}})", "structured_outputs.structural_tag"},
                      Bad{R"({"response_format": {"type": "xml"}})", "response_format.type"},
                      Bad{R"({"response_format": {"type": "json_schema"}})", "response_format.json_schema"},
                      Bad{R"({"response_format": {"type": "json_object"}, "guided_regex": "a"})", "guided_regex"},
                      Bad{R"({"guided_choice": []})", "guided_choice"},
                      Bad{R"({"guided_choice": [1]})", "guided_choice"}, Bad{R"({"guided_json": 3})", "guided_json"},
                      Bad{R"({"guided_json": "{"})", "guided_json"}));

TEST(Settings, AskingForNothingImpossibleIsFine) {
  EXPECT_NO_THROW(settings_of(OrderedJson::parse(
      R"({"use_beam_search": false, "length_penalty": 1.0, "response_format": {"type": "text"}, "user": "me"})")));
}

TEST(Constraints, ComeFromThreeFamilies) {
  using Kind = OutputConstraint::Kind;
  const auto kind = [](const char* json) { return settings_of(OrderedJson::parse(json)).constraint.kind; };
  EXPECT_EQ(kind(R"({"response_format": {"type": "json_object"}})"), Kind::json_object);
  EXPECT_EQ(kind(R"({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}})"),
            Kind::json_schema);
  EXPECT_EQ(kind(R"({"response_format": {"type": "regex_schema", "regex_schema": "a+"}})"), Kind::regex);
  EXPECT_EQ(kind(R"({"structured_outputs": {"choice": ["a"]}})"), Kind::choice);
  EXPECT_EQ(kind(R"({"structured_outputs": {"json": {"type": "object"}}})"), Kind::json_schema);
  EXPECT_EQ(kind(R"({"guided_json": "{\"type\": \"object\"}"})"), Kind::json_schema);
  EXPECT_EQ(kind(R"({"guided_grammar": "start: \"a\""})"), Kind::grammar);
}

TEST(Fields, KnowsWhatNobodyAskedFor) {
  const OrderedJson body = OrderedJson::parse(R"({"temperature": 1, "temprature": 2})");
  Fields fields(body);
  read_generation_settings(fields);
  EXPECT_EQ(fields.unknown(), std::vector<std::string>{"temprature"});
  EXPECT_NO_THROW(report_unknown(fields, "/x", false));
  EXPECT_EQ(refused([&] { report_unknown(fields, "/x", true); }), "temprature");
}

TEST(Body, MustBeAnObject) {
  EXPECT_THROW(parse_body("[1]"), ApiError);
  EXPECT_THROW(parse_body("{"), Error);
  EXPECT_THROW(parse_body(std::string(1000, '[')), Error);
}

ChatInput chat_of(const std::string& json) {
  const OrderedJson body = OrderedJson::parse(json);
  Fields fields(body);
  return read_chat_input(fields);
}

TEST(Messages, AreMadeReadyForTemplates) {
  const ChatInput input = chat_of(R"({"messages": [
    {"role": "developer", "content": [{"type": "text", "text": "Be"}, {"type": "text", "text": "kind"}]},
    {"role": "user", "content": "hi", "name": "Ann"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"b\": 1, \"a\": 2}"}}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "3"},
    {"role": "assistant", "reasoning_content": "so", "content": "three"}]})");
  EXPECT_EQ(input.messages[0]["content"], "Be\nkind");
  EXPECT_EQ(input.messages[1]["name"], "Ann");
  EXPECT_EQ(input.messages[2]["tool_calls"][0]["function"].dump(), R"({"name":"f","arguments":{"b":1,"a":2}})");
  EXPECT_EQ(input.messages[2]["content"], "");
  EXPECT_EQ(input.messages[3]["tool_call_id"], "call_1");
  EXPECT_EQ(input.messages[4]["reasoning_content"], "so");
}

TEST(Messages, ErrorsNameTheirPlace) {
  const auto field = [](const std::string& json) { return refused([&] { chat_of(json); }); };
  EXPECT_EQ(field(R"({})"), "messages");
  EXPECT_EQ(field(R"({"messages": []})"), "messages");
  EXPECT_EQ(field(R"({"messages": 3})"), "messages");
  EXPECT_EQ(field(R"({"messages": [{"role": "user", "content": "a"}, {"role": "boss", "content": "b"}]})"),
            "messages[1].role");
  EXPECT_EQ(field(R"({"messages": [{"role": "user"}]})"), "messages[0].content");
  EXPECT_EQ(field(R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]})"),
            "messages[0].content[0].type");
  EXPECT_EQ(field(R"({"messages": [{"content": "a"}]})"), "messages[0].role");
}

TEST(ToolFields, AreChecked) {
  const auto field = [](const std::string& rest) {
    return refused([&] { chat_of(R"({"messages": [{"role": "user", "content": "a"}], )" + rest + "}"); });
  };
  EXPECT_EQ(field(R"("tools": 1)"), "tools");
  EXPECT_EQ(field(R"("tools": [{"type": "web_search"}])"), "tools[0].type");
  EXPECT_EQ(field(R"("tools": [{"type": "function", "function": {"name": "a b"}}])"), "tools[0].function.name");
  EXPECT_EQ(field(R"("tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}])"),
            "tools[0].function.parameters");
  EXPECT_EQ(field(R"("tool_choice": "required")"), "tool_choice");
  EXPECT_EQ(field(R"("tools": [{"type": "function", "function": {"name": "a"}}],
                     "tool_choice": {"type": "function", "function": {"name": "b"}})"),
            "tool_choice.function.name");
  EXPECT_EQ(field(R"("tool_choice": "sometimes")"), "tool_choice");
  EXPECT_EQ(field(R"("chat_template": "x")"), "chat_template");
  EXPECT_EQ(field(R"("reasoning_effort": "huge")"), "reasoning_effort");
}

TEST(ToolFields, OldAndNewFormsMeanTheSame) {
  const ChatInput input = chat_of(R"({"messages": [{"role": "user", "content": "a"}],
    "functions": [{"name": "f"}], "function_call": {"name": "f"}})");
  EXPECT_EQ(input.tools[0]["function"]["name"], "f");
  EXPECT_EQ(input.tool_choice.kind, ToolChoice::Kind::named);
  EXPECT_EQ(input.tool_choice.name, "f");
}

TEST(ThinkingFields, ReachTheTemplate) {
  const ChatInput off = chat_of(R"({"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "none"})");
  EXPECT_EQ(off.template_args["enable_thinking"], false);
  const ChatInput given = chat_of(
      R"({"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"enable_thinking": true, "x": 1}})");
  EXPECT_EQ(given.template_args.dump(), R"({"enable_thinking":true,"x":1})");
}

}  // namespace
}  // namespace bittern::server
