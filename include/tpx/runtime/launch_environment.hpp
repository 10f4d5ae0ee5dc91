// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tpx/config.hpp>
#include <tpx/error.hpp>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace tpx {

/// What a launcher told this process about the job that it is a rank of.
struct launch {
  std::string_view launcher;  // "tpx-run", "torchrun", "Open MPI", "Slurm"
  int rank = 0;
  int size = 1;
  std::string job;  // the same for all ranks of a job, another for every other job
};

namespace detail {

/// The variables of one process's environment, through which the launcher is recognised.
template <class Get>
struct launch_reader {
  Get const& get;

  [[nodiscard]] bool has(char const* variable) const { return get(variable) != nullptr; }

  [[nodiscard]] std::string text(char const* variable) const {
    char const* const value = get(variable);
    return value == nullptr ? "" : value;
  }

  /// The variable's number, 0 or more; `otherwise` where it is not set.
  [[nodiscard]] int number(char const* variable, std::optional<int> otherwise = {}) const {
    if (!has(variable) && otherwise) { return *otherwise; }
    std::string const value = text(variable);
    int parsed = -1;
    auto const [end, bad] = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (!has(variable) || bad != std::errc{} || end != value.data() + value.size() || parsed < 0) {
      throw error{
        errc::invalid_argument,
        std::string{variable} + (has(variable) ? "=\"" + value + "\" is not a number of 0 or more"
                                               : " is not set, but others of its launcher are"),
        {.remedy = "start the program with its launcher, or unset the launcher's "
                   "variables to run ranks as threads"}};
    }
    return parsed;
  }

  [[nodiscard]] launch read(std::string_view launcher, char const* rank, char const* size,
                            std::string job) const {
    launch const found{launcher, number(rank), number(size), std::move(job)};
    std::string const says = std::string{rank} + '=' + std::to_string(found.rank) + " and " + size +
                             '=' + std::to_string(found.size);
    if (found.size > max_ranks) {
      throw error{
        errc::unsupported,
        says + ": a group has at most " + std::to_string(max_ranks) + " ranks, all of one host",
        {.remedy = "use the Nccl transport for more"}};
    }
    expects(found.size >= 1 && found.rank < found.size,
            says + " do not fit together: a rank is less than the number of ranks");
    expects(!found.job.empty(), says + ", but nothing tells this job from others of the same user",
            "set TPX_JOB to one text of your choice for all ranks of the job");
    return found;
  }

  /// `here` holds how many of `all` are on this host.
  void one_host(char const* here, int all, char const* what) const {
    if (number(here, all) == all) { return; }
    throw error{errc::unsupported,
                std::string{here} + '=' + text(here) + " where " + what + " is " +
                  std::to_string(all) + ": the job has several hosts, a group has one",
                {.remedy = "make a group on each host and join the hosts with the Nccl transport, "
                           "which adopts an ncclComm_t"}};
  }
};

}  // namespace detail

/// What `get(variable)`, like getenv(3), knows of a launcher. Empty: there is none.
///
/// The first of these whose variables are there: tpx-run or you (TPX_RANK, TPX_WORLD_SIZE,
/// TPX_JOB), torchrun (RANK and WORLD_SIZE), Open MPI's mpirun, a job step of Slurm's srun. TPX_JOB
/// alone overrides what the others call the job.
/// Errors: invalid_argument, naming the variable; unsupported for several hosts or over 16 ranks.
template <class Get>
[[nodiscard]] std::optional<launch> launch_from(Get const& get) {
  detail::launch_reader<Get> const env{get};
  auto const job = [&](std::string otherwise) {
    return env.has("TPX_JOB") ? env.text("TPX_JOB") : std::move(otherwise);
  };
  if (env.has("TPX_RANK") || env.has("TPX_WORLD_SIZE")) {
    return env.read("tpx-run", "TPX_RANK", "TPX_WORLD_SIZE", job(""));
  }
  if (env.has("RANK") && env.has("WORLD_SIZE")) {
    std::string const id = env.text("TORCHELASTIC_RUN_ID");
    std::string const port = env.text("MASTER_PORT");
    auto found = env.read(
      "torchrun", "RANK", "WORLD_SIZE",
      job(id.empty() && port.empty()
            ? ""
            : "torchrun " + id + ' ' + port + ' ' + env.text("TORCHELASTIC_RESTART_COUNT")));
    env.one_host("LOCAL_WORLD_SIZE", found.size, "WORLD_SIZE");
    return found;
  }
  if (env.has("OMPI_COMM_WORLD_RANK") && env.has("OMPI_COMM_WORLD_SIZE")) {
    char const* const id = env.has("PMIX_NAMESPACE") ? "PMIX_NAMESPACE" : "OMPI_MCA_ess_base_jobid";
    auto found = env.read("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                          job(env.has(id) ? "Open MPI " + env.text(id) : ""));
    env.one_host("OMPI_COMM_WORLD_LOCAL_SIZE", found.size, "OMPI_COMM_WORLD_SIZE");
    return found;
  }
  // A batch script has all but the step: only srun starts ranks.
  if (env.has("SLURM_PROCID") && env.has("SLURM_STEP_ID")) {
    bool const step = env.has("SLURM_STEP_NUM_TASKS");
    auto found = env.read("Slurm", "SLURM_PROCID", step ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS",
                          job("Slurm " + env.text("SLURM_JOB_ID") + '.' +
                              env.text("SLURM_STEP_ID") + ' ' + env.text("SLURM_RESTART_COUNT")));
    env.one_host(env.has("SLURM_STEP_NUM_NODES") ? "SLURM_STEP_NUM_NODES" : "SLURM_NNODES", 1,
                 "what a group can span");
    return found;
  }
  return {};
}

/// The same of this process's environment.
[[nodiscard]] inline std::optional<launch> launch_from_environment() {
  return launch_from([](char const* variable) { return std::getenv(variable); });
}

/// Whether a launcher started this process as one rank of a job. Errors: as launch_from().
[[nodiscard]] inline bool launched() {
  return launch_from_environment().has_value();
}

}  // namespace tpx
