package dev.sfumato.demo

import dev.sfumato.core.Accelerator
import org.junit.Assert.assertEquals
import org.junit.Test

class DemoScreenTest {
    /** A spinner as Android's: what was selected is told after the next layout, and only where it then is another than before. */
    private class Spinner(private val tell: (Int) -> Unit) {
        private var told = 0
        var selected = 0

        fun layout() {
            if (selected == told) return
            told = selected
            tell(selected)
        }
    }

    /** Frames that arrive between the tap and the layout render the state that has no choice yet. */
    @Test
    fun aDelegateChosenWhileFramesArriveStaysChosen() {
        var state = Accelerator.CPU
        val spinner = Spinner { state = Accelerator.entries[it] }
        val show = OnChange<Accelerator> { spinner.selected = it.ordinal }
        show(state)
        spinner.layout()
        spinner.selected = Accelerator.NNAPI.ordinal // the tap
        repeat(3) { show(state) }
        spinner.layout()
        assertEquals(Accelerator.NNAPI, state)
        repeat(3) { show(state) }
        spinner.layout()
        assertEquals(Accelerator.NNAPI, state)
    }

    @Test
    fun onlyAnotherValueIsShown() {
        val shown = mutableListOf<String>()
        val show = OnChange<String>(shown::add)
        for (text in listOf("", "", "a", "a", "")) show(text)
        assertEquals(listOf("", "a", ""), shown)
    }
}
