// Opening a workspace: what is read and checked at every start, the changes of config.ini, and the checksums on demand.
#include "tensor/workspace.h"

#include <bittern/error.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/sha256.h"
#include "base/strings.h"
#include "base/thread_pool.h"
#include "tensor/quote_name.h"

namespace bittern {
namespace {

namespace fs = std::filesystem;

constexpr JsonOptions kManifestJson{.code = ErrorCode::invalid_checkpoint};

[[noreturn]] void damaged(const fs::path& path, const std::string& reason) {
  throw Error(ErrorCode::invalid_checkpoint, path.string() + ": " + reason,
              "the workspace is damaged or was copied incompletely; make it anew: bittern convert MODEL -o DIR");
}

std::string digest(std::span<const std::byte> bytes) {
  Sha256 sum;
  sum.update(bytes);
  return sum.finish();
}

// Lines of sha256sum: digest, two spaces (or a space and an asterisk), name.
std::map<std::string, std::string, std::less<>> read_checksums(const fs::path& path) {
  const MmapFile file(path);
  std::map<std::string, std::string, std::less<>> sums;
  for (const std::string_view line : split(file.text(), '\n')) {
    if (trim(line).empty()) continue;
    if (line.size() < 67 || line[64] != ' ') damaged(path, "a line is not a checksum and a file name");
    sums[std::string(line.substr(66))] = std::string(line.substr(0, 64));
  }
  return sums;
}

bool is_padding(const std::string& name) { return name.starts_with(".pad."); }

std::int64_t groups_of(const WorkspaceWeight& weight) {
  return (weight.in + weight.format.group_size - 1) / weight.format.group_size;
}

void set_rope_theta(Json& config, double theta) {
  config["rope_theta"] = theta;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (config.contains(key) && config[key].is_object() && config[key].contains("rope_theta")) {
      config[key]["rope_theta"] = theta;
    }
  }
}

void set_dynamic_scaling(Json& config, double factor) {
  if (config.contains("rope_parameters") && config["rope_parameters"].is_object() &&
      config["rope_parameters"].contains("rope_theta") && !config.contains("rope_theta")) {
    config["rope_theta"] = config["rope_parameters"]["rope_theta"];
  }
  config.erase("rope_parameters");
  config["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", factor}};
}

}  // namespace

bool is_workspace(const fs::path& dir) {
  std::error_code ignored;
  return fs::is_regular_file(dir / kWorkspaceFolder / kManifestFile, ignored) ||
         fs::is_regular_file(dir / kWorkspaceFolder / kPackedFile, ignored);
}

WorkspaceFiles::WorkspaceFiles(const fs::path& dir, PackingReader reader)
    : dir_(dir), reader_(std::move(reader)), files_(ModelFiles::from_directory(dir)) {
  read_manifest();
  map_weights();
  check_tensors();
  read_config_ini();
}

void WorkspaceFiles::read_manifest() {
  const fs::path path = dir_ / kWorkspaceFolder / kManifestFile;
  checksums_ = read_checksums(dir_ / kChecksumFile);
  const MmapFile file(path);
  const auto sum = checksums_.find(std::string(kWorkspaceFolder) + "/" + std::string(kManifestFile));
  if (sum == checksums_.end() || sum->second != digest(file.bytes())) {
    damaged(path, "its checksum is not the one in " + std::string(kChecksumFile));
  }
  manifest_ = WorkspaceManifest::from_json(parse_json(file.text(), path.string(), kManifestJson), path.string());
  if (manifest_.layout == reader_.layout) return;
  throw Error(ErrorCode::unsupported,
              dir_.string() + " is packed as " + manifest_.layout.describe() + "; this program packs and reads " +
                  reader_.layout.describe(),
              "make it anew: bittern convert " + manifest_.source + " -o " + dir_.string() + " --overwrite");
}

void WorkspaceFiles::map_weights() {
  const fs::path path = dir_ / kWorkspaceFolder / kPackedFile;
  mapping_ = std::make_shared<MmapFile>(path);
  if (static_cast<std::int64_t>(mapping_->size()) != manifest_.file_bytes) {
    damaged(path, "has " + std::to_string(mapping_->size()) + " bytes, the manifest says " +
                      std::to_string(manifest_.file_bytes));
  }
  weights_ = read_safetensors(FileBytes{path.string(), mapping_->bytes(), mapping_});
  for (const SafetensorsEntry& entry : weights_.entries) index_[entry.name] = &entry;
}

const SafetensorsEntry& WorkspaceFiles::tensor(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) damaged(weights_.bytes.path, "it lacks tensor " + quote_name(name));
  return *found->second;
}

// Every weight of the manifest has its tensors, of the element types and shapes that its format asks for, and there is
// nothing besides.
void WorkspaceFiles::check_tensors() const {
  std::size_t seen = 0;
  for (const auto& [name, weight] : manifest_.weights) {
    seen += check_orders(name, weight) + (weight.packed ? check_packing(name, weight) : check_canonical(name, weight));
  }
  for (const std::string& name : manifest_.vectors) seen += tensor(name).name == name ? 1 : 0;
  for (const SafetensorsEntry& entry : weights_.entries) seen += is_padding(entry.name) ? 1 : 0;
  if (seen != weights_.entries.size()) damaged(weights_.bytes.path, "it holds tensors that the manifest does not name");
}

std::size_t WorkspaceFiles::expect(const std::string& name, std::string_view dtype,
                                   const std::vector<std::int64_t>& shape) const {
  const SafetensorsEntry& entry = tensor(name);
  if (entry.dtype_name != dtype || entry.shape != shape) {
    damaged(weights_.bytes.path, quote_name(name) + " has another shape or type than the manifest says");
  }
  return 1;
}

// Each of these returns how many tensors it found.
std::size_t WorkspaceFiles::check_orders(const std::string& name, const WorkspaceWeight& weight) const {
  return (weight.input_order ? expect(name + ".input_order", "I32", {weight.in}) : 0) +
         (weight.row_order ? expect(name + ".row_order", "I32", {weight.out}) : 0);
}

// What the bytes must be is the backend's to say; it checks when it takes them into use.
std::size_t WorkspaceFiles::check_packing(const std::string& name, const WorkspaceWeight& weight) const {
  return expect(name + ".packed", "U8", {weight.bytes});
}

std::size_t WorkspaceFiles::check_canonical(const std::string& name, const WorkspaceWeight& weight) const {
  if (weight.format.kind == FormatKind::dense) damaged(weights_.bytes.path, quote_name(name) + " is not packed");
  const std::int64_t groups = groups_of(weight);
  const std::size_t codes =
      expect(name + ".data", "U8", {weight.out, weight.format.bits > 4 ? weight.in : (weight.in + 1) / 2}) +
      expect(name + ".scales", "F32", {weight.out, groups});
  if (weight.format.codes != Codes::integer) return codes;
  const bool offsets = index_.contains(name + ".offsets");
  return codes + expect(name + (offsets ? ".offsets" : ".zeros"), offsets ? "F32" : "U8", {weight.out, groups});
}

void WorkspaceFiles::read_config_ini() {
  const fs::path path = dir_ / kWorkspaceFolder / kConfigIniFile;
  const MmapFile file(path);
  config_ini_ = ConfigIni::parse(file.text(), path.string());
  config_ini_.check_facts(manifest_.config_ini);
  settings_ = config_ini_.run_settings(manifest_.config_ini, files_->find("kv_params.safetensors").has_value());
  patch_config();
}

void WorkspaceFiles::patch_config() {
  const ConfigIni &ini = config_ini_, &written = manifest_.config_ini;
  const auto change = [&](const char* file, const std::function<void(Json&)>& edit) {
    const auto found = files_->find(file);
    if (!found) return;
    Json json = parse_json(found->text(), found->path, kManifestJson);
    const Json before = json;
    edit(json);
    if (json != before) patched_[file] = std::make_shared<const std::string>(json.dump(2));
  };
  const auto end_token = [&](Json& json) {
    if (ini.differs("end_id", written)) json["eos_token_id"] = ini.integer("end_id", 0);
  };
  change("config.json", [&](Json& json) {
    if (ini.differs("rope_theta", written)) set_rope_theta(json, ini.real("rope_theta", 0));
    if (ini.differs("norm_eps", written)) json["rms_norm_eps"] = ini.real("norm_eps", 0);
    if (ini.differs("max_position_embeddings", written)) {
      json["max_position_embeddings"] = ini.integer("max_position_embeddings", 0);
    }
    const double factor = ini.real("rope_scaling_factor", 0);
    const bool dynamic = factor > 0 || ini.integer("use_dynamic_ntk", 0) != 0;
    if (dynamic) set_dynamic_scaling(json, factor > 0 ? factor : 1.0);
    end_token(json);
  });
  change("generation_config.json", end_token);
}

std::vector<std::string> WorkspaceFiles::list() const {
  std::vector<std::string> names = files_->list();
  std::erase(names, kChecksumFile);
  return names;
}

std::optional<FileBytes> WorkspaceFiles::find(std::string_view name) const {
  const auto patched = patched_.find(name);
  if (patched == patched_.end()) return files_->find(name);
  const std::shared_ptr<const std::string>& text = patched->second;
  return FileBytes{(dir_ / name).string(), std::as_bytes(std::span(*text)), text};
}

void WorkspaceFiles::will_need(std::span<const std::byte> bytes) const {
  const auto offset = static_cast<std::size_t>(bytes.data() - mapping_->bytes().data());
  mapping_->advise(MmapFile::Access::will_need, offset, bytes.size());
}

std::vector<std::string> WorkspaceFiles::verify(
    int threads, const std::function<void(std::int64_t done, std::int64_t total)>& progress) const {
  std::vector<std::string> wrong;
  for (const auto& [name, sum] : checksums_) {
    std::error_code ignored;
    if (!fs::is_regular_file(dir_ / name, ignored) || digest(MmapFile(dir_ / name).bytes()) != sum) {
      wrong.push_back(name);
    }
  }
  std::int64_t total = 0, done = 0;
  for (const SafetensorsEntry& entry : weights_.entries) total += static_cast<std::int64_t>(entry.bytes);
  std::mutex mutex;
  ThreadPool pool(threads > 0 ? threads : ThreadPool::default_size());
  pool.parallel_for(static_cast<int>(weights_.entries.size()), [&](int i, int) {
    const SafetensorsEntry& entry = weights_.entries[static_cast<std::size_t>(i)];
    const auto sum = manifest_.sha256.find(entry.name);
    const bool right = is_padding(entry.name) || (sum != manifest_.sha256.end() && sum->second == digest(entry.data));
    const std::lock_guard lock(mutex);
    if (!right) wrong.push_back(std::string(kWorkspaceFolder) + "/" + std::string(kPackedFile) + ": " + entry.name);
    done += static_cast<std::int64_t>(entry.bytes);
    if (progress) progress(done, total);
  });
  std::sort(wrong.begin(), wrong.end());
  return wrong;
}

}  // namespace bittern
