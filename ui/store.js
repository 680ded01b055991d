// What stays in the browser: conversations and settings, in localStorage. When it is full or forbidden the page goes on
// without it and says so once.

const KEYS = { conversations: "bittern.conversations", settings: "bittern.settings" };
const read = (key, fallback) => {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? fallback;
  } catch {
    return fallback;
  }
};

export class Store {
  constructor(onFull) {
    this.onFull = onFull;
    this.conversations = read(KEYS.conversations, []);
    if (!Array.isArray(this.conversations)) this.conversations = [];
    this.settings = { system: "", temperature: "", top_p: "", max_tokens: "", seed: "", key: "", theme: "auto", model: "", ...read(KEYS.settings, {}) };
  }
  save() {
    try {
      localStorage.setItem(KEYS.conversations, JSON.stringify(this.conversations));
      localStorage.setItem(KEYS.settings, JSON.stringify(this.settings));
    } catch {
      this.onFull();
    }
  }
  create() {
    const conversation = { id: `${Date.now()}-${Math.random().toString(36).slice(2, 8)}`, title: "New conversation", messages: [] };
    this.conversations.unshift(conversation);
    return conversation;
  }
  remove(conversation) {
    this.conversations = this.conversations.filter((other) => other !== conversation);
    this.save();
  }
  /// Of the form of OpenAI's messages, so that other programs read them.
  exported() {
    return JSON.stringify({ exported: new Date().toISOString(), conversations: this.conversations }, null, 2);
  }
}
