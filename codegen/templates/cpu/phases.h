// Where the threads of a tile kernel spend their time: for `irc bench`, which defines IRC_PROFILE. IRC_WATCH begins a
// thread's account, IRC_PHASE says what it does from there on; otherwise they are nothing. The clock is that of the
// thread's processor time: a thread that waits, or is put aside for another process, spends none. Reading it takes some tenths
// of a microsecond, which are an account of their own.
#if defined(IRC_PROFILE)
#include <ctime>

namespace irc {

enum Phase { BUFFERS, PACKING, MASKS, SCORES, MASKED_SCORES, RESCALING, PRODUCTS, RESULTS, WAITING, READING, PHASES };
inline double seconds_in[PHASES];

class Watch {
  double seconds_[PHASES] = {};
  const double reading_ = reading();
  Phase phase_ = BUFFERS;
  double since_ = now();

  static double now() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
  }

  static double reading() {
    double least = 1;
    for (int n = 0; n < 8; n++) {
      const double start = now();
      least = std::min(least, now() - start);
    }
    return least;
  }

 public:
  void enter(Phase next) {
    const double at = now();
    seconds_[phase_] += std::max(0.0, at - since_ - reading_);
    seconds_[READING] += reading_;
    phase_ = next, since_ = at;
  }
  ~Watch() {
    enter(WAITING);
#pragma omp critical(irc_phases)
    for (int n = 0; n < PHASES; n++) seconds_in[n] += seconds_[n];
  }
};

}  // namespace irc

// The seconds of all threads in each phase since the last time. One for all parts that a source is compiled in.
extern "C" inline __attribute__((used)) void irc_phases(double *seconds) {
  std::copy_n(irc::seconds_in, int(irc::PHASES), seconds);
  std::fill_n(irc::seconds_in, int(irc::PHASES), 0.0);
}

#define IRC_WATCH irc::Watch irc_watch
#define IRC_PHASE(phase) irc_watch.enter(phase)
#else
#define IRC_WATCH
#define IRC_PHASE(phase)
#endif
