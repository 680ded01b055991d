// Anthropic's Messages API over the embedded model, and its reading of blocks.
#include "base/strings.h"
#include "route_fixture.h"
#include "server/anthropic/messages_input.h"
#include "server/anthropic/messages_output.h"

namespace bittern::server {
namespace {

OrderedJson parse(const char* text) { return OrderedJson::parse(text); }

class MessagesRoute : public testing::RouteTest {
 protected:
  static OrderedJson ask() {
    return parse(R"({"model":"mini","max_tokens":16,"temperature":0,
                     "messages":[{"role":"user","content":"What is 2 + 3?"}]})");
  }

  struct Event {
    std::string name;
    OrderedJson data;
  };
  static std::vector<Event> events(const std::string& body) {
    std::vector<Event> list;
    for (std::string_view line : split(body, '\n')) {
      if (line.starts_with("event: ")) list.push_back({std::string(line.substr(7)), {}});
      if (line.starts_with("data: ")) list.back().data = OrderedJson::parse(line.substr(6));
    }
    return list;
  }
};

TEST_F(MessagesRoute, AnswersWithAMessage) {
  const OrderedJson reply = post("/v1/messages", ask());
  EXPECT_TRUE(reply["id"].get<std::string>().starts_with("msg_"));
  EXPECT_EQ(reply["type"], "message");
  EXPECT_EQ(reply["role"], "assistant");
  EXPECT_EQ(reply["model"], "mini");
  ASSERT_EQ(reply["content"].size(), 1U);
  EXPECT_EQ(reply["content"][0]["type"], "text");
  EXPECT_NE(reply["content"][0]["text"].get<std::string>().find('5'), std::string::npos);
  EXPECT_EQ(reply["stop_reason"], "end_turn");
  EXPECT_TRUE(reply["stop_sequence"].is_null());
  EXPECT_GT(reply["usage"]["output_tokens"], 0);
  const OrderedJson counted = post("/v1/messages/count_tokens", ask());
  const OrderedJson& usage = reply["usage"];
  EXPECT_EQ(counted["input_tokens"], usage["input_tokens"].get<int>() + usage["cache_read_input_tokens"].get<int>());
}

TEST_F(MessagesRoute, StreamsTheSameInTheRightOrder) {
  OrderedJson body = ask();
  const OrderedJson whole = post("/v1/messages", body);
  body["stream"] = true;
  const auto list = events(send("POST", "/v1/messages", body.dump()).body);
  ASSERT_GE(list.size(), 6U);
  EXPECT_EQ(list[0].name, "message_start");
  EXPECT_EQ(list[0].data["message"]["content"], OrderedJson::array());
  EXPECT_EQ(list[1].name, "ping");
  EXPECT_EQ(list[2].name, "content_block_start");
  std::string text;
  for (std::size_t i = 3; i + 3 < list.size(); ++i) {
    EXPECT_EQ(list[i].name, "content_block_delta");
    EXPECT_EQ(list[i].data["index"], 0);
    text += list[i].data["delta"]["text"].get<std::string>();
  }
  EXPECT_EQ(text, whole["content"][0]["text"]);
  EXPECT_EQ(list[list.size() - 3].name, "content_block_stop");
  const Event& delta = list[list.size() - 2];
  EXPECT_EQ(delta.name, "message_delta");
  EXPECT_EQ(delta.data["delta"]["stop_reason"], whole["stop_reason"]);
  EXPECT_EQ(delta.data["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
  EXPECT_EQ(list.back().name, "message_stop");
  for (const Event& event : list) EXPECT_EQ(event.data["type"], event.name);
}

TEST_F(MessagesRoute, EndsForTheReasonThatItSays) {
  OrderedJson body = ask();
  body["max_tokens"] = 1;
  EXPECT_EQ(post("/v1/messages", body)["stop_reason"], "max_tokens");
  body["max_tokens"] = 16;
  body["stop_sequences"] = {"5"};
  const OrderedJson stopped = post("/v1/messages", body);
  EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
  EXPECT_EQ(stopped["stop_sequence"], "5");
}

TEST_F(MessagesRoute, CallsATool) {
  OrderedJson body = ask();
  body["max_tokens"] = 200;
  body["tools"] = parse(R"([{"name":"add","description":"Adds.","input_schema":{"type":"object","properties":
      {"a":{"enum":[1,2,3]},"b":{"enum":[1,2,3]}},"required":["a","b"],"additionalProperties":false}}])");
  body["tool_choice"] = {{"type", "tool"}, {"name", "add"}};
  const OrderedJson reply = post("/v1/messages", body);
  EXPECT_EQ(reply["stop_reason"], "tool_use");
  ASSERT_EQ(reply["content"].size(), 1U);
  const OrderedJson& block = reply["content"][0];
  EXPECT_EQ(block["type"], "tool_use");
  EXPECT_EQ(block["name"], "add");
  EXPECT_TRUE(block["input"]["a"].is_number());
  body["stream"] = true;
  std::string json;
  for (const Event& event : events(send("POST", "/v1/messages", body.dump()).body)) {
    if (event.name == "content_block_delta") json += event.data["delta"]["partial_json"].get<std::string>();
  }
  EXPECT_EQ(OrderedJson::parse(json), block["input"]);
}

TEST_F(MessagesRoute, RefusesByName) {
  const auto param = [&](const char* key, const OrderedJson& value) {
    OrderedJson body = ask();
    body[key] = value;
    return refused("/v1/messages", body).param();
  };
  OrderedJson body = ask();
  body.erase("max_tokens");
  EXPECT_EQ(refused("/v1/messages", body).param(), "max_tokens");
  EXPECT_EQ(param("messages", OrderedJson::array()), "messages");
  EXPECT_EQ(param("messages", parse(R"([{"role":"robot","content":"x"}])")), "messages[0].role");
  EXPECT_EQ(param("messages",
                  parse(R"([{"role":"user","content":[{"type":"text","text":"x"},{"type":"image","source":{}}]}])")),
            "messages[0].content[1].type");
  EXPECT_EQ(param("system", 7), "system");
  EXPECT_EQ(param("tools", parse(R"([{"type":"web_search_20250305","name":"web_search"}])")), "tools[0].type");
  EXPECT_EQ(param("tool_choice", parse(R"({"type":"any"})")), "tool_choice");
  EXPECT_EQ(param("thinking", parse(R"({"type":"maybe"})")), "thinking.type");
  EXPECT_EQ(param("max_tokens", 0), "max_tokens");
  EXPECT_EQ(param("n", 2), "n");
  EXPECT_EQ(route("POST", "/v1/messages").errors, ErrorShape::anthropic);
}

TEST(MessagesInput, TurnsBlocksIntoMessages) {
  const OrderedJson body = parse(R"({"max_tokens":5,"system":[{"type":"text","text":"Be brief."}],"messages":[
    {"role":"user","content":"Hi"},
    {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"Let me see."},
      {"type":"tool_use","id":"t1","name":"look","input":{"at":"sky"}}]},
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"blue"}]},
      {"type":"text","text":"Well?"}]}],
    "tools":[{"name":"look","input_schema":{"type":"object"}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},
    "thinking":{"type":"enabled","budget_tokens":2048}})");
  Fields fields(body);
  const MessagesRequest request = read_messages_request(fields, false);
  EXPECT_EQ(request.chat.messages, parse(R"([
    {"role":"system","content":"Be brief."},
    {"role":"user","content":"Hi"},
    {"role":"assistant","content":"Let me see.",
     "tool_calls":[{"type":"function","id":"t1","function":{"name":"look","arguments":{"at":"sky"}}}],"reasoning_content":"hm"},
    {"role":"tool","tool_call_id":"t1","content":"blue"},
    {"role":"user","content":"Well?"}])"));
  EXPECT_EQ(request.chat.tools[0]["function"]["name"], "look");
  EXPECT_EQ(request.chat.tool_choice.kind, ToolChoice::Kind::required);
  EXPECT_FALSE(request.chat.parallel_calls);
  EXPECT_EQ(request.chat.template_args["enable_thinking"], true);
  EXPECT_EQ(request.settings.max_tokens, 5);
  EXPECT_TRUE(fields.unknown().empty());
}

TEST(AssistantParts, FollowOneAnother) {
  AssistantParts parts;
  PartSink nobody;
  const auto add = [&](AssistantDelta delta, std::string finish = "") {
    ChatEvent event;
    event.delta = std::move(delta);
    event.finish = std::move(finish);
    parts.add(event, nobody);
  };
  add({"think", "", {}});
  add({"ing", "", {}});
  add({"", "So: ", {{0, "f", ""}}});
  add({"", "", {{0, "", "{\"a\":"}}});
  add({"", "", {{0, "", "1}"}, {1, "g", "{"}}});
  add({}, "tool_calls");
  ASSERT_EQ(parts.parts().size(), 4U);
  EXPECT_EQ(message_block(parts.parts()[0])["thinking"], "thinking");
  EXPECT_EQ(message_block(parts.parts()[1])["text"], "So: ");
  EXPECT_EQ(message_block(parts.parts()[2])["input"], parse(R"({"a":1})"));
  EXPECT_EQ(message_block(parts.parts()[3])["name"], "g");
  EXPECT_EQ(message_block(parts.parts()[3])["input"], OrderedJson::object()) << "its arguments broke off";
  EXPECT_NE(parts.parts()[2].id, parts.parts()[3].id);
}

}  // namespace
}  // namespace bittern::server
