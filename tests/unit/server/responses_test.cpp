// The Responses API over the embedded model, and its reading of items.
#include "base/strings.h"
#include "route_fixture.h"
#include "server/responses/responses_input.h"

namespace bittern::server {
namespace {

OrderedJson parse(const char* text) { return OrderedJson::parse(text); }

class ResponsesRoute : public testing::RouteTest {
 protected:
  static OrderedJson ask() {
    return {{"model", "mini"}, {"input", "What is 2 + 3?"}, {"temperature", 0}, {"max_output_tokens", 40}};
  }

  std::vector<OrderedJson> stream(OrderedJson body) {
    body["stream"] = true;
    std::vector<OrderedJson> events;
    std::string name;
    const HttpReply reply = send("POST", "/v1/responses", body.dump());
    for (std::string_view line : split(reply.body, '\n')) {
      if (line.starts_with("event: ")) name = line.substr(7);
      if (!line.starts_with("data: ")) continue;
      events.push_back(OrderedJson::parse(line.substr(6)));
      EXPECT_EQ(events.back()["type"], name);
      EXPECT_EQ(events.back()["sequence_number"], events.size() - 1);
    }
    return events;
  }
  static std::vector<std::string> types(const std::vector<OrderedJson>& events) {
    std::vector<std::string> names;
    for (const OrderedJson& event : events) {
      const std::string type = event["type"];
      if (names.empty() || names.back() != type) names.push_back(type);
    }
    return names;
  }
};

TEST_F(ResponsesRoute, AnswersWithAResponse) {
  const OrderedJson reply = post("/v1/responses", ask());
  EXPECT_EQ(reply["object"], "response");
  EXPECT_EQ(reply["status"], "completed");
  EXPECT_EQ(reply["model"], "mini");
  EXPECT_EQ(reply["store"], false);
  ASSERT_EQ(reply["output"].size(), 1U);
  const OrderedJson& item = reply["output"][0];
  EXPECT_EQ(item["type"], "message");
  EXPECT_EQ(item["content"][0]["type"], "output_text");
  EXPECT_NE(item["content"][0]["text"].get<std::string>().find('5'), std::string::npos);
  const OrderedJson& usage = reply["usage"];
  EXPECT_EQ(usage["total_tokens"], usage["input_tokens"].get<int>() + usage["output_tokens"].get<int>());
  EXPECT_EQ(post("/v1/responses/input_tokens", ask())["input_tokens"], usage["input_tokens"]);
}

TEST_F(ResponsesRoute, StreamsTheSameInTheRightOrder) {
  const OrderedJson whole = post("/v1/responses", ask());
  const auto events = stream(ask());
  EXPECT_EQ(types(events), (std::vector<std::string>{
                               "response.created", "response.in_progress", "response.output_item.added",
                               "response.content_part.added", "response.output_text.delta", "response.output_text.done",
                               "response.content_part.done", "response.output_item.done", "response.completed"}));
  std::string text;
  for (const OrderedJson& event : events) {
    if (event["type"] == "response.output_text.delta") text += event["delta"].get<std::string>();
  }
  const OrderedJson& last = events.back()["response"];
  EXPECT_EQ(text, whole["output"][0]["content"][0]["text"]);
  EXPECT_EQ(last["output"][0]["content"], whole["output"][0]["content"]);
  EXPECT_EQ(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
  EXPECT_EQ(events[0]["response"]["id"], last["id"]);
  EXPECT_EQ(events[0]["response"]["status"], "in_progress");
}

TEST_F(ResponsesRoute, SaysWhenItBrokeOff) {
  OrderedJson body = ask();
  body["max_output_tokens"] = 1;
  const OrderedJson reply = post("/v1/responses", body);
  EXPECT_EQ(reply["status"], "incomplete");
  EXPECT_EQ(reply["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(stream(body).back()["type"], "response.incomplete");
}

TEST_F(ResponsesRoute, CallsAFunction) {
  OrderedJson body = ask();
  body["max_output_tokens"] = 200;
  body["tools"] = parse(R"([{"type":"function","name":"add","strict":true,"parameters":{"type":"object","properties":
      {"a":{"enum":[1,2,3]},"b":{"enum":[1,2,3]}},"required":["a","b"],"additionalProperties":false}}])");
  body["tool_choice"] = parse(R"({"type":"function","name":"add"})");
  const OrderedJson reply = post("/v1/responses", body);
  ASSERT_EQ(reply["output"].size(), 1U);
  const OrderedJson& call = reply["output"][0];
  EXPECT_EQ(call["type"], "function_call");
  EXPECT_EQ(call["name"], "add");
  EXPECT_TRUE(OrderedJson::parse(call["arguments"].get<std::string>())["b"].is_number());
  const auto events = stream(body);
  EXPECT_EQ(types(events),
            (std::vector<std::string>{"response.created", "response.in_progress", "response.output_item.added",
                                      "response.function_call_arguments.delta", "response.function_call_arguments.done",
                                      "response.output_item.done", "response.completed"}));
  EXPECT_EQ(events.back()["response"]["output"][0]["arguments"], call["arguments"]);
}

TEST_F(ResponsesRoute, FollowsASchema) {
  OrderedJson body = ask();
  body["text"] = parse(R"({"format":{"type":"json_schema","name":"n","schema":
      {"type":"object","properties":{"sum":{"enum":[4,5]}},"required":["sum"],"additionalProperties":false}}})");
  const std::string text = post("/v1/responses", body)["output"][0]["content"][0]["text"];
  EXPECT_TRUE(OrderedJson::parse(text)["sum"].is_number()) << text;
}

TEST_F(ResponsesRoute, RefusesWhatIsKeptByName) {
  const auto param = [&](const char* key, const OrderedJson& value) {
    OrderedJson body = ask();
    body[key] = value;
    return refused("/v1/responses", body).param();
  };
  EXPECT_EQ(param("previous_response_id", "resp_1"), "previous_response_id");
  EXPECT_EQ(param("conversation", "conv_1"), "conversation");
  EXPECT_EQ(param("background", true), "background");
  EXPECT_EQ(param("prompt", parse(R"({"id":"p"})")), "prompt");
  EXPECT_EQ(param("truncation", "auto"), "truncation");
  EXPECT_EQ(param("include", parse(R"(["file_search_call.results"])")), "include");
  EXPECT_EQ(param("input", OrderedJson::array()), "input");
  EXPECT_EQ(param("input", parse(R"([{"type":"item_reference","id":"x"}])")), "input[0].type");
  EXPECT_EQ(param("input", parse(R"([{"role":"user","content":[{"type":"input_image","image_url":"x"}]}])")),
            "input[0].content[0].type");
  EXPECT_EQ(param("tools", parse(R"([{"type":"web_search"}])")), "tools[0].type");
  EXPECT_EQ(param("reasoning", parse(R"({"effort":"huge"})")), "reasoning.effort");
  EXPECT_EQ(param("max_output_tokens", 0), "max_output_tokens");
  OrderedJson stored = ask();
  stored["store"] = true;
  EXPECT_EQ(post("/v1/responses", stored)["store"], false) << "it says that nothing is kept";
}

TEST(ResponsesInput, TurnsItemsIntoMessages) {
  const OrderedJson body = parse(R"({"instructions":"Be brief.","input":[
    {"role":"user","content":"Hi"},
    {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
    {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Let me see."}]},
    {"type":"function_call","call_id":"c1","name":"look","arguments":"{\"at\":\"sky\"}"},
    {"type":"function_call","call_id":"c2","name":"look","arguments":"{\"at\":\"sea\"}"},
    {"type":"function_call_output","call_id":"c1","output":"blue"},
    {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"green"}]}],
    "tools":[{"type":"function","name":"look"}],"tool_choice":"required","parallel_tool_calls":false})");
  Fields fields(body);
  const ResponsesRequest request = read_responses_request(fields);
  EXPECT_EQ(request.chat.messages, parse(R"([
    {"role":"system","content":"Be brief."},
    {"role":"user","content":"Hi"},
    {"role":"assistant","content":"Let me see.","reasoning_content":"hm","tool_calls":[
      {"type":"function","id":"c1","function":{"name":"look","arguments":{"at":"sky"}}},
      {"type":"function","id":"c2","function":{"name":"look","arguments":{"at":"sea"}}}]},
    {"role":"tool","tool_call_id":"c1","content":"blue"},
    {"role":"tool","tool_call_id":"c2","content":"green"}])"));
  EXPECT_EQ(request.chat.tool_choice.kind, ToolChoice::Kind::required);
  EXPECT_FALSE(request.chat.parallel_calls);
  EXPECT_TRUE(fields.unknown().empty());
}

}  // namespace
}  // namespace bittern::server
