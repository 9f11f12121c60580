/**
 * From a photo to an answer, one step at a time, as [DemoUiState].
 *
 * The network lives on a thread of its own: some delegates must be run by the thread that loaded them. Frames of the camera are
 * perturbed there too and never sent by themselves: every frame is another draw, so sending takes a tap.
 */
package dev.sfumato.demo

import androidx.lifecycle.ViewModel
import dev.sfumato.core.Accelerator
import dev.sfumato.core.AnswerSource
import dev.sfumato.core.Bundle
import dev.sfumato.core.Client
import dev.sfumato.core.Contract
import dev.sfumato.core.DeviceKeys
import dev.sfumato.core.Encoding
import dev.sfumato.core.FULL_STRENGTH
import dev.sfumato.core.Ledger
import dev.sfumato.core.LocalNetwork
import dev.sfumato.core.LogException
import dev.sfumato.core.NetworkFactory
import dev.sfumato.core.Perturbed
import dev.sfumato.core.Perturber
import dev.sfumato.core.Picture
import dev.sfumato.core.Reply
import dev.sfumato.core.SfumatoException
import dev.sfumato.core.requireTaken
import java.util.Locale
import java.util.concurrent.Executor
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.ExecutorCoroutineDispatcher
import kotlinx.coroutines.Job
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.update
import kotlinx.coroutines.isActive
import kotlinx.coroutines.launch
import kotlinx.coroutines.runInterruptible
import kotlinx.coroutines.withContext

/** Reads a photo, upright, large enough for an input of this size. */
fun interface PhotoReader {
    fun read(reference: String, height: Int, width: Int): Picture
}

/** Where uploads go; kept over restarts. */
interface ServerSettings {
    var server: String
    var token: String?
}

/** Everything the view model needs from the phone. */
class DemoParts(
    val openBundle: () -> Bundle,
    val networks: NetworkFactory,
    val keys: DeviceKeys,
    val openLedger: () -> Ledger,
    val photos: PhotoReader,
    val settings: ServerSettings,
    val answers: (Contract, ServerSettings) -> AnswerSource = { contract, to -> Client(to.server, contract, to.token) },
)

class DemoViewModel(
    private val parts: DemoParts,
    private val scope: CoroutineScope,
    private val network: ExecutorCoroutineDispatcher,
    private val io: CoroutineDispatcher,
) : ViewModel(scope) {
    private val mutableState = MutableStateFlow<DemoUiState>(DemoUiState.Loading)
    val state: StateFlow<DemoUiState> = mutableState.asStateFlow()

    /** Frames must be handed in on this one; it takes the next frame when it is done with the last. */
    val frames: Executor get() = network.executor

    // Touched by the network's thread alone.
    private var bundle: Bundle? = null
    private var engine: Engine? = null
    private var photo: Picture? = null

    private val ledger by lazy(parts.openLedger)
    private var asking: Job? = null
    private var source: AnswerSource? = null
    private val showing = Any()

    init {
        scope.launch(network) {
            try {
                val opened = parts.openBundle().also { bundle = it }
                val settings = parts.settings
                val asImage = if (opened.code == null) null else false
                val ready = DemoUiState.Ready(
                    RuntimeChoice(), server = settings.server, hasToken = settings.token != null, asImage = asImage, points = opened.contract.points,
                )
                mutableState.value = ready
                showAccount()
                open(ready.choice)
            } catch (error: SfumatoException) {
                mutableState.value = DemoUiState.Broken(error.message.orEmpty())
            }
        }
    }

    /** Run the network elsewhere, or on more threads. */
    fun choose(accelerator: Accelerator, threads: Int) {
        val choice = RuntimeChoice(accelerator, threads)
        val now = state.value as? DemoUiState.Ready ?: return
        if (now.choice == choice) return
        ready { copy(choice = choice, runtime = RuntimeState.Opening) }
        scope.launch(network) { open(choice) }
    }

    /** Send the code word as its image, for services that take images alone; or by itself. */
    fun sendAsImage(image: Boolean) {
        val before = (state.value as? DemoUiState.Ready)?.asImage ?: return
        if (before == image) return
        forgetAnswer()
        ready { copy(asImage = image, photo = if (photo is PhotoState.Shown) PhotoState.Working else photo) }
        scope.launch(network) {
            engine = engine?.sending(encoding(), checkNotNull(bundle), parts)
            photo?.let { perturb { it } }
        }
    }

    /** Draw uploads at the strength of another point; what is shown is drawn anew. */
    fun chooseStrength(strength: Int) {
        val now = state.value as? DemoUiState.Ready ?: return
        if (now.strength == strength) return
        forgetAnswer()
        ready { copy(strength = strength, photo = if (photo is PhotoState.Shown) PhotoState.Working else photo) }
        scope.launch(network) { photo?.let { perturb { it } } }
    }

    private fun encoding(): Encoding {
        val asImage = (state.value as? DemoUiState.Ready)?.asImage == true
        return if (asImage) Encoding.PNG else checkNotNull(bundle).contract.encoding
    }

    /** Show a photo of the gallery. */
    fun openPhoto(reference: String) {
        stopLive()
        forgetAnswer()
        ready { copy(photo = PhotoState.Working) }
        scope.launch(network) {
            // The photo picker may answer an app that was started anew, with an export that is broken by now.
            val contract = bundle?.contract ?: return@launch
            perturb { parts.photos.read(reference, contract.height, contract.width) }
        }
    }

    fun startLive() {
        forgetAnswer()
        ready { copy(live = true) }
    }

    /** Keep the last frame. */
    fun stopLive() = ready { copy(live = false) }

    /** A frame of the camera, on [frames]. */
    fun onFrame(frame: () -> Picture) {
        if ((state.value as? DemoUiState.Ready)?.live == true) perturb(frame)
    }

    /** The camera cannot be used. */
    fun onCameraFailed(reason: String) = ready { copy(live = false, photo = PhotoState.Failed(reason)) }

    /** Ask the server about the upload that is shown. */
    fun send() {
        stopLive()
        val shown = (state.value as? DemoUiState.Ready)?.photo as? PhotoState.Shown ?: return
        forgetAnswer()
        ready { copy(answer = AnswerState.Asking) }
        asking = scope.launch {
            val answer = try {
                AnswerState.Received(countAndSend(shown.perturbed))
            } catch (error: SfumatoException) {
                AnswerState.Failed(error.message.orEmpty())
            }
            ready { if (isActive) copy(answer = answer) else this } // the state of a forgotten question is another's by now
        }
    }

    /**
     * Counted first: what the server may have is in the account, whatever becomes of the answer. An interruption would close the
     * ledger under the entry, so only the wait for the answer is interrupted; a question forgotten while it is counted is not sent.
     */
    private suspend fun countAndSend(perturbed: Perturbed): Reply {
        val source = withContext(io) {
            val (service, source) = destination()
            try {
                ledger.spend(service, perturbed.draw, perturbed.rateBits)
            } finally {
                showAccount()
            }
            source
        }
        return runInterruptible(io) { source.send(perturbed.upload) }
    }

    /** Send no more than this many bits a day to the server; an empty text lifts the limit. */
    fun setLimit(text: String) = onAccount {
        val bits = text.trim().replace(',', '.').ifEmpty { null }?.let {
            it.toDoubleOrNull() ?: throw SfumatoException("a limit is a number of bits, not '$it'")
        }
        ledger.setLimit(Ledger.serviceOf(parts.settings.server), bits, null)
    }

    /** Keep what is whole of a damaged account. */
    fun repairAccount() = onAccount { ledger.repair() }

    private fun onAccount(work: () -> Unit) {
        scope.launch(io) {
            try {
                work()
                showAccount()
            } catch (error: SfumatoException) {
                ready { copy(account = account.copy(text = error.message.orEmpty(), broken = error is LogException)) }
            }
        }
    }

    /** One at a time: an account that was read earlier is shown earlier. */
    private fun showAccount() = synchronized(showing) {
        val shown = try {
            val account = ledger.account(Ledger.serviceOf(parts.settings.server))
            AccountState(account.sentence, limit = account.limit.day?.let { "%.6f".format(Locale.ROOT, it / 1e6).trimEnd('0').trimEnd('.') }.orEmpty())
        } catch (error: SfumatoException) {
            AccountState(error.message.orEmpty(), broken = error is LogException)
        }
        ready { copy(account = shown) }
    }

    /** Send to another server; an empty [token] keeps the one that is stored unless the server changes. */
    fun setServer(server: String, token: String) {
        val settings = parts.settings
        try {
            val checked = Client.checkedUrl(server)
            Client.checkToken(token)
            forgetAnswer()
            synchronized(settings) {
                if (token.isNotEmpty() || checked != settings.server) settings.token = token.ifEmpty { null }
                settings.server = checked
                source = null
            }
            ready { copy(server = checked, hasToken = settings.token != null) }
            scope.launch(io) { showAccount() }
        } catch (error: SfumatoException) {
            ready { copy(answer = AnswerState.Failed(error.message.orEmpty())) }
        }
    }

    /** Uploads from now on share nothing with earlier ones, not even those of the same photo. */
    fun resetKey() {
        forgetAnswer()
        ready { if (photo is PhotoState.Shown) copy(photo = PhotoState.Working) else this }
        scope.launch(network) {
            parts.keys.reset()
            photo?.let { perturb { it } }
        }
    }

    override fun onCleared() {
        network.executor.execute { engine?.network?.close() }
        network.close()
    }

    private fun open(choice: RuntimeChoice) {
        engine?.network?.close()
        engine = null
        val runtime = try {
            val start = System.nanoTime()
            val opened = Engine.open(checkNotNull(bundle), choice, parts, encoding())
            engine = opened
            RuntimeState.Running(opened.network.delegation, opened.difference, (opened.openedAt - start) / 1e6)
        } catch (error: SfumatoException) {
            RuntimeState.Refused(error.message.orEmpty())
        }
        ready { if (this.choice == choice) copy(runtime = runtime) else this }
        photo?.let { perturb { it } }
    }

    private fun perturb(read: () -> Picture) {
        val shown = try {
            val picture = read().also { photo = it }
            val perturber = engine?.perturber ?: throw SfumatoException("no network runs: choose another delegate")
            PhotoState.Shown(perturber.perturb(picture, (state.value as? DemoUiState.Ready)?.strength ?: FULL_STRENGTH))
        } catch (error: SfumatoException) {
            PhotoState.Failed(error.message.orEmpty())
        }
        ready { copy(photo = shown) }
    }

    /** The account's name of the server, and the way to it. A question about to be forgotten must not bring back the server of before. */
    private fun destination(): Pair<String, AnswerSource> = synchronized(parts.settings) {
        val now = source ?: parts.answers(checkNotNull(bundle).contract, parts.settings).also { source = it }
        Ledger.serviceOf(parts.settings.server) to now
    }

    private fun forgetAnswer() {
        asking?.cancel()
        ready { copy(answer = AnswerState.None) }
    }

    private fun ready(change: DemoUiState.Ready.() -> DemoUiState.Ready) =
        mutableState.update { if (it is DemoUiState.Ready) it.change() else it }
}

/** A loaded network that was asked for the export's known answers. */
private class Engine(val network: LocalNetwork, val perturber: Perturber, val openedAt: Long, val difference: Int) {
    /** The same network; uploads travel otherwise. */
    fun sending(encoding: Encoding, bundle: Bundle, parts: DemoParts) =
        Engine(network, Perturber(bundle, network, parts.keys, encoding), openedAt, difference)

    companion object {
        fun open(bundle: Bundle, choice: RuntimeChoice, parts: DemoParts, encoding: Encoding): Engine {
            val network = parts.networks.open(bundle.model, choice.accelerator, choice.threads).requireTaken(choice.accelerator)
            val openedAt = System.nanoTime()
            try {
                val perturber = Perturber(bundle, network, parts.keys, encoding)
                return Engine(network, perturber, openedAt, bundle.vectors.largestDifference(perturber, bundle.contract))
            } catch (error: SfumatoException) {
                network.close()
                throw error
            }
        }
    }
}
